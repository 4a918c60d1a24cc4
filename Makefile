# fragaffinity: build with PGXS, private installation, tests.
#
#   make                 builds for the server of PG_CONFIG (FA_CFLAGS=-Werror)
#   make install         into that server
#   make deps            installs the Debian packages of test/packages
#   make tmp_install     private copy of the server with the extension in it
#   make demo            three nodes, a week of bike trips, without and with moves
#   make test            everything above but install, then every suite
#   make test-rdma       the suite of RDMA alone, in a guest of qemu
#   make test-run SUITES="unit regress isolation tap rooms" TESTS="001_nodes"
#   make installcheck    pg_regress against a running server

EXTENSION = fragaffinity
MODULE_big = fragaffinity

OBJS = \
	src/core/background.o \
	src/core/fa_compat.o \
	src/core/guc.o \
	src/core/lock_poll.o \
	src/core/plain_input.o \
	src/core/plain_output.o \
	src/core/ring.o \
	src/core/settings.o \
	src/core/shmem.o \
	src/core/slots.o \
	src/core/spi.o \
	src/core/stop_point.o \
	src/core/target.o \
	src/node/act_as.o \
	src/node/cluster_join.o \
	src/node/cluster_part.o \
	src/node/cluster_xact.o \
	src/node/copy_lines.o \
	src/node/copy_place.o \
	src/node/copy_statement.o \
	src/node/deadlock.o \
	src/node/deadlock_cancel.o \
	src/node/fdw.o \
	src/node/fdw_analyze.o \
	src/node/fdw_as_of.o \
	src/node/fdw_base.o \
	src/node/fdw_callback.o \
	src/node/fdw_copy.o \
	src/node/fdw_exec.o \
	src/node/fdw_group.o \
	src/node/fdw_late.o \
	src/node/fdw_leave.o \
	src/node/fdw_scan.o \
	src/node/fdw_security.o \
	src/node/fdw_settings.o \
	src/node/finish.o \
	src/node/forward.o \
	src/node/hops.o \
	src/node/health.o \
	src/node/in_doubt.o \
	src/node/node.o \
	src/node/peer.o \
	src/node/peer_pool.o \
	src/node/peer_session.o \
	src/node/peer_use.o \
	src/node/remote.o \
	src/node/remote_cancel.o \
	src/node/remote_copy.o \
	src/node/remote_many.o \
	src/node/remote_try.o \
	src/node/resolver.o \
	src/node/role_session.o \
	src/node/row_burst.o \
	src/node/row_stream.o \
	src/node/session.o \
	src/node/take_row.o \
	src/node/vouch.o \
	src/node/wait_graph.o \
	src/node/xact_stats.o \
	src/catalog/bucket_of.o \
	src/catalog/configure.o \
	src/catalog/copy_rows.o \
	src/catalog/dependents.o \
	src/catalog/distribute.o \
	src/catalog/heap_wait.o \
	src/catalog/key_type.o \
	src/catalog/leave.o \
	src/catalog/links.o \
	src/catalog/map.o \
	src/catalog/map_bucket.o \
	src/catalog/membership.o \
	src/catalog/partition_add.o \
	src/catalog/partition_kind.o \
	src/catalog/placement.o \
	src/catalog/precopy.o \
	src/catalog/refuse.o \
	src/catalog/refuse_constant.o \
	src/catalog/refuse_peers.o \
	src/catalog/reshape.o \
	src/catalog/reshape_lock.o \
	src/catalog/split.o \
	src/catalog/table_aside.o \
	src/catalog/table_bound.o \
	src/catalog/table_export.o \
	src/catalog/table_leaf.o \
	src/catalog/table_lock.o \
	src/catalog/table_names.o \
	src/catalog/table_rename.o \
	src/catalog/table_sequence.o \
	src/catalog/table_state.o \
	src/catalog/table_text.o \
	src/catalog/table_tree.o \
	src/catalog/table_unique.o \
	src/catalog/table_wait.o \
	src/catalog/undistribute.o \
	src/capture/collect.o \
	src/capture/counters.o \
	src/capture/drain.o \
	src/capture/events.o \
	src/capture/execution.o \
	src/capture/give_back.o \
	src/capture/heat.o \
	src/capture/import_log.o \
	src/capture/log_reader.o \
	src/capture/metrics.o \
	src/capture/rollup.o \
	src/capture/statement.o \
	src/capture/stats.o \
	src/capture/tables.o \
	src/capture/touch.o \
	src/capture/transitions.o \
	src/capture/utility.o \
	src/predict/archive.o \
	src/predict/chain.o \
	src/predict/expected.o \
	src/predict/frame.o \
	src/predict/hints.o \
	src/predict/history.o \
	src/predict/linear.o \
	src/predict/lstm.o \
	src/predict/memory.o \
	src/predict/model_holt.o \
	src/predict/model_lstm.o \
	src/predict/model_pooled.o \
	src/predict/model_profile.o \
	src/predict/model_recent.o \
	src/predict/model_seasonal.o \
	src/predict/model_session.o \
	src/predict/model_static.o \
	src/predict/next.o \
	src/predict/next_context.o \
	src/predict/next_kinds.o \
	src/predict/next_lstm.o \
	src/predict/next_mix.o \
	src/predict/next_signals.o \
	src/predict/next_state.o \
	src/predict/pending.o \
	src/predict/pool.o \
	src/predict/predictor.o \
	src/predict/profile.o \
	src/predict/profile_seen.o \
	src/predict/rates.o \
	src/predict/season.o \
	src/predict/sessions.o \
	src/predict/slots.o \
	src/predict/state.o \
	src/predict/trust.o \
	src/route/alone.o \
	src/route/async.o \
	src/route/column_rights.o \
	src/route/copy.o \
	src/route/copy_input.o \
	src/route/copy_leader.o \
	src/route/copy_replay.o \
	src/route/copy_route.o \
	src/route/copy_simple.o \
	src/route/copy_text.o \
	src/route/copy_writer.o \
	src/route/custom_plan.o \
	src/route/ddl_alter.o \
	src/route/ddl_check.o \
	src/route/ddl_drop.o \
	src/route/ddl_everywhere.o \
	src/route/ddl_guard.o \
	src/route/ddl_partition.o \
	src/route/ddl_policy.o \
	src/route/ddl_publish.o \
	src/route/ddl_rename.o \
	src/route/ddl_roles.o \
	src/route/ddl_unique.o \
	src/route/ddl_waited.o \
	src/route/deferred.o \
	src/route/function.o \
	src/placement/admit.o \
	src/placement/balance.o \
	src/placement/co_access.o \
	src/placement/controller.o \
	src/placement/cost.o \
	src/placement/decide.o \
	src/placement/divide.o \
	src/placement/divide_note.o \
	src/placement/divide_rest.o \
	src/placement/divide_size.o \
	src/placement/divider.o \
	src/placement/drain.o \
	src/placement/forecast.o \
	src/placement/forecast_batch.o \
	src/placement/forecast_state.o \
	src/placement/foresee.o \
	src/placement/foresee_rows.o \
	src/placement/gather.o \
	src/placement/group.o \
	src/placement/hindsight.o \
	src/placement/hints.o \
	src/placement/hot_keys.o \
	src/placement/hot_range.o \
	src/placement/keep_room.o \
	src/placement/numbering.o \
	src/placement/outcome.o \
	src/placement/pin.o \
	src/placement/placement.o \
	src/placement/plan.o \
	src/placement/publish.o \
	src/placement/rebalance.o \
	src/placement/request.o \
	src/placement/simulate.o \
	src/placement/simulate_replay.o \
	src/report/chart.o \
	src/report/data.o \
	src/report/forecast.o \
	src/report/heat.o \
	src/report/html.o \
	src/report/load.o \
	src/report/moves.o \
	src/report/overview.o \
	src/report/quality.o \
	src/report/report.o \
	src/report/series.o \
	src/report/style.o \
	src/report/tables.o \
	src/transport/channel.o \
	src/transport/check.o \
	src/transport/fault.o \
	src/transport/negotiate.o \
	src/transport/rdma.o \
	src/transport/receive.o \
	src/transport/ring.o \
	src/transport/send.o \
	src/transport/shm.o \
	src/transport/stats.o \
	src/transport/stream.o \
	src/transport/transports.o \
	src/page/blocks.o \
	src/page/btree.o \
	src/page/frame.o \
	src/page/heap.o \
	src/page/index.o \
	src/page/items.o \
	src/page/layout.o \
	src/page/maps.o \
	src/page/raw.o \
	src/page/read.o \
	src/page/room.o \
	src/page/row.o \
	src/page/send_relation.o \
	src/page/shape.o \
	src/page/verdict.o \
	src/page/wal.o \
	src/page/write.o \
	src/page/xids.o \
	src/migrate/announce.o \
	src/migrate/apply.o \
	src/migrate/channel.o \
	src/migrate/choose.o \
	src/migrate/copy.o \
	src/migrate/cutover.o \
	src/migrate/give_way.o \
	src/migrate/guard.o \
	src/migrate/heap_lock.o \
	src/migrate/logical.o \
	src/migrate/move.o \
	src/migrate/mover.o \
	src/migrate/mover_slots.o \
	src/migrate/pages.o \
	src/migrate/recover.o \
	src/migrate/source.o \
	src/migrate/statistics.o \
	src/migrate/statistics_read.o \
	src/migrate/stream.o \
	src/route/gate.o \
	src/route/hash_step.o \
	src/route/hooks.o \
	src/route/isolation.o \
	src/route/kept.o \
	src/route/kept_fill.o \
	src/route/kept_settings.o \
	src/route/kept_shape.o \
	src/route/kept_shapes.o \
	src/route/leaf.o \
	src/route/leaf_check.o \
	src/route/leaf_columns.o \
	src/route/own_changes.o \
	src/route/peer_error.o \
	src/route/peer_scan.o \
	src/route/pin.o \
	src/route/pin_equality.o \
	src/route/pin_partition.o \
	src/route/pin_possible.o \
	src/route/pin_resolve.o \
	src/route/pin_written.o \
	src/route/refusal.o \
	src/route/remote_scan.o \
	src/route/router.o \
	src/route/row_by_row.o \
	src/route/row_image.o \
	src/route/row_merge.o \
	src/route/row_query.o \
	src/route/row_security.o \
	src/route/row_statement.o \
	src/route/row_upsert.o \
	src/route/scan_keys.o \
	src/route/snapshot_guard.o \
	src/route/split.o \
	src/route/split_scan.o \
	src/route/standby.o \
	src/route/whole.o \
	src/route/whole_param.o \
	src/route/whole_text.o \
	src/worker/database.o \
	src/worker/launcher.o \
	src/fragaffinity.o

# A module of its own, the only thing that needs librdmacm and libibverbs; with
# their headers where there are any (with_rdma=no: not even then).
RDMA_MODULE = fragaffinity_rdma.so
RDMA_OBJS = \
	src/transport/rdma_address.o \
	src/transport/rdma_connect.o \
	src/transport/rdma_device.o \
	src/transport/rdma_module.o \
	src/transport/rdma_transfer.o

DATA = \
	sql/fragaffinity--1.0.sql

# Forecasts over exported history, outside of the server.
SCRIPTS_built = fragaffinity-predict

# test/sql/NAME.sql -> expected/NAME.out
REGRESS = \
	01_extension \
	02_settings \
	20_report \

# test/specs/NAME.spec -> expected/NAME.out; not PGXS's ISOLATION, as a bare
# server (make installcheck) lacks the second node that the specs move to.
ISOLATION_SPECS = \
	move_locks \
	move_snapshots \
	move_twice \
	split_locks \

REGRESS_OPTS = --inputdir=test

PG_CONFIG ?= pg_config

PG_CPPFLAGS = -I$(CURDIR)/include -I$(shell $(PG_CONFIG) --includedir)
PG_CFLAGS = -MMD -MP $(FA_CFLAGS)
# The library's calls of its own functions go straight to them.
SHLIB_LINK = -lpq -lm -Wl,-Bsymbolic-functions
EXTRA_CLEAN = $(OBJS:.o=.d) $(RDMA_OBJS) $(RDMA_OBJS:.o=.d) $(RDMA_MODULE) \
	$(TEST_PROGRAMS) test/clock.so tmp_install

PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)

ifneq ($(wildcard $(PGXS)),)
include $(PGXS)
else
all install installcheck:
	@echo 'make: no PostgreSQL to build for at "$(PG_CONFIG)": run "make deps", or give PG_CONFIG=...' >&2
	@exit 1
endif
.DEFAULT_GOAL := all

-include $(OBJS:.o=.d) $(RDMA_OBJS:.o=.d)

# Bitcode has no dependency files.
$(OBJS:.o=.bc): $(wildcard include/*/*.h)

# The predictor's loops are worth vectorising, wherever it is built.
$(filter src/predict/%,$(OBJS)): CFLAGS += -O3

fragaffinity-predict: $(wildcard src/bin/*.c include/bin/*.h src/predict/*.c include/predict/*.h)
	$(CC) -std=c11 -D_GNU_SOURCE -O3 -g -Wall $(FA_CFLAGS) -Iinclude -o $@ $(filter %.c,$^) -ljansson -lz -lm

with_rdma ?= $(shell printf '\043include <%s>\n' rdma/rdma_cma.h infiniband/verbs.h | \
	$(CC) -E - >/dev/null 2>&1 && echo yes || echo no)

ifeq ($(with_rdma),yes)
all: $(RDMA_MODULE)
install: install-rdma
uninstall: uninstall-rdma
endif

$(RDMA_MODULE): $(RDMA_OBJS)
	$(COMPILER) -shared -o $@ $(RDMA_OBJS) $(LDFLAGS) $(LDFLAGS_SL) -lpq -lrdmacm -libverbs

install-rdma: $(RDMA_MODULE) installdirs
	$(INSTALL_SHLIB) $(RDMA_MODULE) '$(DESTDIR)$(pkglibdir)/'

uninstall-rdma:
	rm -f '$(DESTDIR)$(pkglibdir)/$(RDMA_MODULE)'

deps:
	test/deps

TEST_PROGRAMS = test/proxy test/load
test/proxy: test/proxy.c
test/load: $(wildcard test/clients/*.c test/clients/*.h)
$(TEST_PROGRAMS):
	$(CC) -O2 -g -Wall -Wmissing-prototypes $(FA_CFLAGS) -I$(shell $(PG_CONFIG) --includedir) -o $@ $(filter %.c,$^) -lpq -lm
# Goes into servers that know nothing of sanitizers, so without FA_CFLAGS.
test/clock.so: test/clock.c
	$(CC) -O2 -g -Wall -Wmissing-prototypes -shared -fPIC -o $@ $<
test-programs: $(TEST_PROGRAMS) test/clock.so

# Rebuilds only what changed; several runs in one tree take turns.
tmp_install:
	@flock Makefile $(MAKE) --no-print-directory with_llvm=no all test-programs
	@flock Makefile test/tmp_install $(CURDIR)/tmp_install $(PG_CONFIG)

SUITES = rooms unit regress isolation tap rdma
test-run: tmp_install
	@SUITES='$(SUITES)' REGRESS='$(REGRESS)' ISOLATION='$(ISOLATION_SPECS)' TESTS='$(TESTS)' \
		PG_CONFIG='$(PG_CONFIG)' FA_CFLAGS='$(FA_CFLAGS)' MAKE='$(MAKE)' test/run

# pg_config may be there only after deps, hence the second make.
test: deps
	@$(MAKE) --no-print-directory test-run

test-rdma: deps
	@FA_RDMA_LONG=1 RDMA_TESTS='*.pl' RDMA_LIMIT=3000 RDMA_PATIENCE=6000 $(MAKE) --no-print-directory test-run SUITES=rdma

demo: deps
	@$(MAKE) --no-print-directory tmp_install
	@PG_CONFIG='$(PG_CONFIG)' test/demo/run

bench-capture: tmp_install
	test/bench/capture

bench-commit: tmp_install
	test/bench/commit

.PHONY: install-rdma uninstall-rdma deps demo test test-rdma test-run test-programs tmp_install bench-capture bench-commit
