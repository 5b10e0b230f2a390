#!/bin/sh
# Runs every test. The few that fail beside others run once more, each with the machine to itself: a machine that was
# starved for a minute is told from a fault. What failed first stays in the output; what fails twice fails the run.
cd "$(dirname "$0")/.." || exit
most=5
rm -f .pytest_cache/v/cache/lastfailed
scripts/isolated.sh .venv/bin/python -m pytest -n 2 --dist loadscope "$@"
code=$?
[ "$code" = 1 ] || exit "$code"
failed=$(grep -c '::' .pytest_cache/v/cache/lastfailed)
[ "$failed" -le "$most" ] || exit "$code"
echo "test: $failed failed beside the others; once more by themselves, and failing again is final"
exec scripts/isolated.sh .venv/bin/python -m pytest --last-failed --last-failed-no-failures none -v "$@"
