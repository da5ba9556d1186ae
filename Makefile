# make rpi4   the main job: set up what is missing, run the examples on an emulated Raspberry Pi 4
# make test   set up what is missing, check style and types, run all tests
# make bench  speeds as ratios against a stated baseline
# make published, make mutants, make coverage: longer checks; see docs/development.md
.PHONY: rpi4 test bench published mutants coverage clean

rpi4:
	.ci/bootstrap test,lint
	.ci/with-engines .ci/rpi4

test:
	.ci/bootstrap test,lint
	.ci/with-engines .ci/test

bench:
	.ci/bootstrap test,lint,bench
	.ci/with-engines .venv/bin/python -m pytest benchmarks --benchmark-disable-gc

published:
	.ci/bootstrap test,lint
	.venv/bin/python -m pytest tests/published -n 2

mutants:
	.ci/bootstrap test,lint
	.venv/bin/python -m tests.mutants $(MUTANTS)

coverage:
	.ci/bootstrap test,lint,coverage
	.ci/coverage

clean:
	rm -rf .venv .tox .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
