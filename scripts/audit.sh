#!/usr/bin/env bash
# What the daemon is made of (build/sbom.json, CycloneDX) and whether any of it has a known vulnerability.
# `scripts/audit.sh lock` writes requirements.lock anew instead: versions of constraints.txt, with hashes.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=build/audit-tools
[ -x $tools/bin/pip-audit ] || {
    python3 -m venv $tools
    $tools/bin/pip install -q --disable-pip-version-check pip-audit==2.10.1 cyclonedx-bom==7.5.0 uv==0.13.9
}

if [ "${1:-}" = lock ]; then
    $tools/bin/uv pip compile pyproject.toml -c constraints.txt --generate-hashes --universal --python-version 3.11 \
        --no-header --no-annotate --no-emit-index-url -q -o requirements.lock
    echo "audit: wrote requirements.lock"
    exit
fi

$tools/bin/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml --output-reproducible \
    -o build/sbom.json 2>/dev/null
echo "audit: wrote build/sbom.json"
rm -f build/audit.json
$tools/bin/pip-audit -r requirements.lock --require-hashes --disable-pip --progress-spinner off -f json \
    -o build/audit.json 2>build/audit.log || true
$tools/bin/python - <<'PY'
import json, pathlib, sys

written = pathlib.Path("build/audit.json")
packages = json.loads(written.read_text())["dependencies"] if written.exists() else []
checked = [p for p in packages if "skip_reason" not in p]
faulty = [p for p in checked if p["vulns"]]
for p in faulty:
    print(f"audit: {p['name']} {p['version']}: {', '.join(v['id'] for v in p['vulns'])}")
if not checked:
    print("audit: no vulnerability database could be reached (see build/audit.log): NOTHING WAS CHECKED")
else:
    print(f"audit: {len(checked)} of {len(packages)} packages checked, {len(faulty)} with known vulnerabilities")
sys.exit(bool(faulty))
PY
