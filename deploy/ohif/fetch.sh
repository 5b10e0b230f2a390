#!/usr/bin/env bash
# fetch.sh FOLDER: the built OHIF viewer, by npm, into FOLDER; nothing where it is there already.
set -euo pipefail
version=3.13.2
digest=b189d3963bfc58e9394a9db8c7be75d07beb029ec211dbb126d47b62969dd3f1  # of its archive, SHA-256

folder=$1
[ ! -e "$folder/OHIF-$version" ] || exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd "$work" && npm pack --silent "@ohif/app@$version" > /dev/null)
sha256sum --check --quiet <<< "$digest  $work/ohif-app-$version.tgz"
tar -xmzf "$work/ohif-app-$version.tgz" -C "$work" --exclude '*.map' --exclude 'package/dist/ort' package/dist
mkdir -p "$(dirname "$folder")"
rm -rf "$folder"
mv "$work/package/dist" "$folder"
touch "$folder/OHIF-$version"
