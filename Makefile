# make rpi4   the main job: set up what is missing, run the examples on an emulated Raspberry Pi 4
# make test   set up what is missing, check style and types, run all tests
# make bench  speeds as ratios against a stated baseline
.PHONY: rpi4 test bench clean

rpi4:
	.ci/bootstrap test,lint
	.ci/with-engines .ci/rpi4

test:
	.ci/bootstrap test,lint
	.ci/with-engines .ci/test

bench:
	.ci/bootstrap test,lint,bench
	.ci/with-engines .venv/bin/python -m pytest benchmarks --benchmark-disable-gc

clean:
	rm -rf .venv .tox .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
