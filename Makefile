# The short names of everything one does here; `make help` lists them, CONTRIBUTING.md explains them.
# Each target first installs what Debian 12 lacks (tools/setup: milliseconds when nothing is missing).

WORKERS ?= 4
PROGRAM ?= build/bin/digits
ARGS    ?=
SECONDS ?= 60
SEED    ?= 1
SEEDS   ?= 100000
MEMBERS ?= 5
NODES   ?= 4

sources = $(shell find runtime collectives k8s launcher models tests -name '*.h' -o -name '*.cc')
# Once it is there, build folders are configured again.
kernel_compiler = $(wildcard $(shell tools/setup --cuda-root)/complete)
# The sanitizers of g++ 12 do not know the larger address randomisation of newer kernels.
fixed_addresses = $(shell setarch -R true 2>/dev/null && echo setarch -R)

.PHONY: help setup build run image test kernels check dev tsan tsan-build cluster-test cluster-test-beside-build cluster cluster-down sim planted-bugs fuzz bench cluster-bench join-bench detect-bench checkpoint-bench chaos gpu-test gpu-bench gpu-pack format lint clean
.NOTPARALLEL:

help:
	@echo 'make run      build, then train models/digits with 4 workers here (WORKERS=2 ARGS="--steps 500" PROGRAM=...)'
	@echo 'make build    release binaries into build/bin'
	@echo 'make image    the stock container image, in build/image/muster.tar (ARGS="--add ./my --name my:1")'
	@echo 'make test     every check and test: kernels, check, build, planted-bugs, dev, cluster-test, tsan'
	@echo 'make kernels  installs a compiler for GPU kernels; the next build has them'
	@echo 'make check    the tree check and the format check'
	@echo 'make dev      unit, scenario and process tests under ASan and UBSan (build-dev)'
	@echo 'make tsan     core, collectives, state and k8s/client tests under TSan (build-tsan)'
	@echo 'make cluster-test  tests on a real Kubernetes control plane; skipped, with the reason, without root or Go'
	@echo 'make cluster  starts such a cluster to run jobs on (NODES=4); make cluster-down stops it'
	@echo 'make chaos    random faults against a real job, then compares the bits (SECONDS=600 SEED=7)'
	@echo 'make sim      random histories of a simulated job (SEEDS=1000000 SEED=1 MEMBERS=3-50)'
	@echo 'make planted-bugs  the simulation finds bugs that are planted into the code'
	@echo 'make fuzz     fuzzes whatever reads bytes from outside, 60 s for each reader (SECONDS=600 ARGS="frames journal")'
	@echo 'make bench    the benchmarks of docs/benchmarks.md; make cluster-bench those on the test cluster,'
	@echo '              join-bench: step times while a worker joins; detect-bench: how soon a fault is noticed,'
	@echo '              checkpoint-bench: step times with a checkpoint'
	@echo 'make gpu-test on a machine with a GPU: health, kernels, NCCL, jobs with kills and joins; gpu-bench: how fast they are,'
	@echo '              gpu-pack: both in one archive, for a machine where nothing can be built'
	@echo 'make format   formats all C++ files'
	@echo 'make lint     clang with lock analysis, clang-tidy, headers alone (build-lint)'
	@echo 'make setup    only installs what is missing'
	@echo 'make clean    removes the build folders'

setup:
	@tools/setup lint

build/build.ninja build-dev/build.ninja build-tsan/build.ninja build-fuzz/build.ninja build-lint/build.ninja: CMakePresets.json $(kernel_compiler)

build/build.ninja:
	cmake --preset release
build-dev/build.ninja:
	cmake --preset dev
build-tsan/build.ninja:
	cmake --preset tsan
build-fuzz/build.ninja:
	cmake --preset fuzz
build-lint/build.ninja:
	cmake --preset lint

build:
	@tools/setup
	@$(MAKE) -s --no-print-directory build/build.ninja
	cmake --build --preset release

run: build
	build/bin/launcher run --workers $(WORKERS) -y -- $(PROGRAM) $(ARGS)

image: build
	@k8s/image/build $(ARGS)

test: kernels check build planted-bugs dev cluster-test-beside-build tsan

kernels:
	@tools/setup --cuda || echo 'kernels: left out; the test that looks for them is skipped'

check:
	@tools/setup test
	python3 tools/check_tree
	@clang-format-16 --dry-run --Werror $(sources)

dev:
	@tools/setup test
	@$(MAKE) -s --no-print-directory build-dev/build.ninja
	cmake --build --preset dev
	$(fixed_addresses) ctest --preset dev

tsan: tsan-build
	$(fixed_addresses) ctest --preset tsan

tsan-build:
	@tools/setup test
	@$(MAKE) -s --no-print-directory build-tsan/build.ninja
	cmake --build --preset tsan

cluster-test: build
	@tools/setup cluster
	@printf '%s\n' tests/cluster/*_test.py | MUSTER_BIN=build/bin xargs -P 2 -I TEST \
		sh -c 'python3 TEST >build/$$(basename TEST).log 2>&1; code=$$?; echo TEST; cat build/$$(basename TEST).log; exit $$code'

# Those tests wait for the cluster most of the time; what TSan needs is compiled meanwhile, and gives way to them.
cluster-test-beside-build: build
	@nice -n 19 $(MAKE) -s --no-print-directory tsan-build >build/tsan-build.log 2>&1 & compiler=$$!; \
		$(MAKE) -s --no-print-directory cluster-test; code=$$?; wait $$compiler; exit $$code

cluster: build
	@tools/setup cluster
	@python3 tests/cluster/cluster.py up --nodes $(NODES)

cluster-down:
	@python3 tests/cluster/cluster.py down

# Several ranks share a GPU; tests that need a fault of a stand-in are left out. gpu-pack is for a machine that has a GPU, but no compiler.
gpu_tests = step_kernels_test cuda_health_test device_math_test train_engine_test nccl_test collectives_process_test gpu_mlp_test
gpu_benches = device_bench ring_bench
gpu-test: gpu_programs = $(gpu_tests)
gpu-bench: gpu_programs = $(gpu_benches)
gpu-pack: gpu_programs = $(gpu_tests) $(gpu_benches)

gpu-test gpu-bench gpu-pack: kernels build
	cmake --build --preset release $(gpu_programs:%=--target %) --target paced_program
	python3 tests/cuda/on_gpu.py $(subst gpu-,,$@) $(ARGS)

sim: build
	cmake --build --preset release --target sim_test
	MUSTER_SEED=$(SEED) MUSTER_HISTORIES=$(SEEDS) MUSTER_MEMBERS=$(MEMBERS) build/tests/sim_test --gtest_filter='Histories.Keep*:Histories.DoSoWhere*'

planted-bugs: build
	cmake --build --preset release --target sim_test
	python3 tests/sim/planted_bugs_test.py

fuzz:
	@tools/setup test
	@$(MAKE) -s --no-print-directory build-fuzz/build.ninja
	cmake --build --preset fuzz
	python3 tests/fuzz/campaign.py --seconds $(SECONDS) $(ARGS)

bench: build
	python3 tests/bench/bench.py $(ARGS)

cluster-bench: build
	@tools/setup cluster
	python3 tests/bench/cluster_bench.py $(ARGS)

join-bench detect-bench checkpoint-bench: build
	cmake --build --preset release --target paced_program
	python3 tests/bench/$(subst -,_,$@).py $(ARGS)

chaos: build
	python3 tests/chaos/chaos.py --seconds $(SECONDS) --seed $(SEED) $(ARGS)

format:
	@tools/setup test
	clang-format-16 -i $(sources)

lint:
	@tools/setup lint
	@$(MAKE) -s --no-print-directory build-lint/build.ninja
	cmake --build --preset lint

clean:
	rm -rf build build-dev build-tsan build-fuzz build-lint
