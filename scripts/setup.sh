#!/usr/bin/env bash
# Makes .venv with everything and, as root on Debian, installs the real DICOM peers that demo and tests talk to.
set -euo pipefail
cd "$(dirname "$0")/.."

peers=(dcmtk orthanc orthanc-dicomweb dicom3tools pixelmed-apps libpixelmed-java default-jdk-headless iproute2 util-linux
    rsyslog rsyslog-gnutls sqlite3 gcc libc6-dev postgresql haproxy rabbitmq-server redis-server curl nginx-light chromium)
commands=(storescu Orthanc dciodvfy javac ip unshare rsyslogd sqlite3 cc haproxy rabbitmq-server redis-server
    curl nginx chromium)

missing=()
for command in "${commands[@]}"; do command -v "$command" >/dev/null || missing+=("$command"); done
[ -e /usr/share/java/pixelmed.jar ] || missing+=(pixelmed.jar)
[ -e /usr/share/orthanc/plugins/libOrthancDicomWeb.so ] || missing+=(orthanc-dicomweb)
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing+=(postgresql)
ls /usr/lib/*/rsyslog/lmnsd_gtls.so >/dev/null 2>&1 || missing+=(rsyslog-gnutls)

if [ ${#missing[@]} -gt 0 ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "setup: installing ${peers[*]}"
    # policy-rc.d would be needed to keep Orthanc's service down; where one exists it is left as it is.
    { apt-get update -q && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -q --no-install-recommends "${peers[@]}"; } >/dev/null 2>&1 \
        || echo "setup: apt could not install them; the checks that need them will say that they were skipped"
elif [ ${#missing[@]} -gt 0 ]; then
    echo "setup: missing ${missing[*]}: as root, apt-get install ${peers[*]}."
    echo "setup: without them the demo uses its own small PACS, and tests that need them are skipped by name."
fi

if command -v npm >/dev/null; then
    deploy/ohif/fetch.sh build/ohif || echo "setup: OHIF could not be fetched; the tests that need it will say so"
else
    echo "setup: without npm there is no OHIF; the tests that need it are skipped by name."
fi

python=$(command -v python3.11 || command -v python3)
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
    || { echo "setup: Python 3.11 or newer is needed, found $("$python" --version)"; exit 1; }
if [ ! -x .venv/bin/python ]; then
    "$python" -m venv .venv 2>/dev/null || {
        rm -rf .venv
        [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null \
            && DEBIAN_FRONTEND=noninteractive apt-get install -y -q python3-venv >/dev/null 2>&1
        "$python" -m venv .venv || { echo "setup: python3-venv is missing: apt-get install python3-venv"; exit 1; }
    }
fi

# torch first and exact: a bare requirement pulls gigabytes of CUDA.
.venv/bin/pip install -q --disable-pip-version-check -c constraints.txt torch==2.13.0
.venv/bin/pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
touch .venv/.ready
