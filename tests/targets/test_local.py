"""Workers that die, hang, raise or leave things behind cost their own pair a verdict, and nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from parity import golden as goldens
from parity import system as systems
from parity.errors import ConfigError, ModelError
from parity.plan import Plan
from parity.protocols import Failure, Job
from parity.records import Run
from parity.sources import from_goldens, job_of
from parity.targets.local import LocalTarget
from tests.plugins_for_tests import rig

pytestmark = pytest.mark.slow  # whole commands and worker processes


@pytest.fixture
def alone() -> Iterator[None]:
    """No process is there afterwards that wasn't before."""
    before = started()
    yield
    until(lambda: started() <= before)  # what was killed takes a moment to be gone
    assert started() - before == set()


def started() -> set[psutil.Process]:
    """What runs because of this process's tests, wherever it hangs in the tree of processes."""
    found = set()
    for process in psutil.process_iter():
        try:
            mine = process.environ().get(rig.OWNER) == str(os.getpid())
            if mine and process.status() != psutil.STATUS_ZOMBIE:
                found.add(process)
        except psutil.Error:
            continue
    return found - {psutil.Process()}


def until(holds: Callable[[], bool], seconds: float = 30.0) -> bool:
    """Wait for something that happens by itself."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.02)
    return holds()


def beside_onnxrt(golden: Path, reports: Path, runtime: str, limit: float = 60.0) -> Run:
    with rig.target(limit) as local:
        return rig.run(local, golden, reports, runtimes=(runtime, "onnxrt"))


@pytest.mark.parametrize(
    ("plugin", "cause"),
    [
        ("Aborts", "died of SIGABRT"),
        ("Exits", "ended with exit code 7; its last words: license server not found"),
        ("KilledForMemory", "killed (SIGKILL): out of memory, or by somebody"),
        ("OutOfMemory", "MemoryError"),
        ("Raises", "RuntimeError: kernel not implemented"),
        ("AnswersAList", "AttributeError: 'list' object has no attribute 'items'"),
        ("LeavesChildrenAndAborts", "died of SIGABRT"),
    ],
)
@pytest.mark.usefixtures("alone")
def test_a_runtime_that_fails_is_an_error_of_its_own_pair(
    plugin: str, cause: str, golden: Path, tmp_path: Path
) -> None:
    runtime = f"faulty.runtimes:{plugin}"
    done = beside_onnxrt(golden, tmp_path, runtime)
    assert done.exit_code == 1
    assert rig.failing(done, runtime=runtime) == [("model/logits", "error"), ("decision/label", "error")]
    for said in rig.messages(done, "error").splitlines():
        assert said.startswith(f"{runtime}: {cause}")
        assert said.endswith(f"(at clip {rig.CLIPS[1]})")
    assert rig.failing(done, runtime="onnxrt") == []
    assert {s.worst.outcome for s in done.summaries if s.runtime == "onnxrt"} == {"pass"}
    assert rig.failing(done, path="features") == []


@pytest.mark.usefixtures("alone")
def test_a_runtime_that_hangs_is_stopped_and_the_others_go_on(golden: Path, tmp_path: Path) -> None:
    done = beside_onnxrt(golden, tmp_path, "faulty.runtimes:Hangs", limit=5.0)
    assert done.exit_code == 1
    said = set(rig.messages(done, "error").splitlines())
    assert said == {f"faulty.runtimes:Hangs: no answer within 5 s: stopped (at clip {rig.CLIPS[1]})"}
    assert rig.failing(done, runtime="onnxrt") == []


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("plugin", ["Prints", "LeavesChildren"])
def test_a_runtime_that_talks_or_starts_processes_is_judged_by_what_it_computes(
    plugin: str, golden: Path, tmp_path: Path
) -> None:
    assert beside_onnxrt(golden, tmp_path, f"faulty.runtimes:{plugin}").exit_code == 0


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("plugin", "cause"),
    [
        ("Aborts", "died of SIGABRT"),
        ("Hangs", "no answer within 5 s: stopped"),
        ("OneClipShort", "gave 2 results for 3 clips"),
        ("Missing:tap=features/compressed", f"gave no features/compressed for {rig.CLIPS[0]}"),
        ("Transposed", f"gave features/compressed of shape [50, 98] for {rig.CLIPS[0]}, the golden's is [98, 50]"),
    ],
)
def test_a_backend_that_fails_costs_its_pairs_only(plugin: str, cause: str, golden: Path, tmp_path: Path) -> None:
    backend = f"faulty.backends:{plugin}"
    with rig.target(5.0) as local:
        done = rig.run(local, golden, tmp_path, backends=(backend, "numpy"))
    assert done.exit_code == 1
    said = set(rig.messages(done, "error", path="cumulative").splitlines())
    assert said == {f"{backend}: {cause}"}
    assert rig.failing(done, backend="numpy") == []
    assert rig.failing(done, path="isolated") == []


def job(
    golden: Path, backends: Sequence[str] = ("numpy",), runtimes: Sequence[str] = ("faulty.runtimes:Aborts", "onnxrt")
) -> Job:
    system = systems.load(rig.SYSTEM)
    (part,) = from_goldens(goldens.load(golden, system), frozenset()).chunks
    onnx = next(a for a in system.artifacts if a.format == "onnx")
    return job_of(Plan(system, dict.fromkeys(backends, frozenset()), [(r, onnx) for r in runtimes]), part)


@pytest.mark.usefixtures("alone")
def test_what_failed_is_not_tried_again_and_the_rest_of_the_jobs_goes_on(golden: Path) -> None:
    one = job(golden)
    with rig.target() as local:
        first, second = local.run([one, one])
    for result in (first, second):
        assert isinstance(result.activations["", "faulty.runtimes:Aborts", "float32"], Failure)
        assert not isinstance(result.activations["", "onnxrt", "float32"], Failure)
    key = "", "faulty.runtimes:Aborts", "float32"
    assert first.activations[key] == second.activations[key]


def of_clip(whole: Job, i: int) -> Job:
    """The job with one of its clips only."""
    return replace(whole, clips=[whole.clips[i]], references=[whole.references[i]], taps=[whole.taps[i]])


def test_a_backend_that_raises_for_one_clip_is_asked_for_the_next(golden: Path) -> None:
    backend = f"faulty.at_work:RaisesFor:clip={rig.CLIPS[0]}"
    whole = job(golden, [backend], ["onnxrt"])
    with rig.target() as local:
        (bad,) = local.run([of_clip(whole, 0)])
        (good,) = local.run([of_clip(whole, 1)])
        (again,) = local.run([of_clip(whole, 0)])
    failed = bad.features[backend]
    assert isinstance(failed, Failure)
    assert failed.reason.startswith(f"ValueError: {rig.CLIPS[0]} is too quiet for me (at_work.py, line ")
    assert failed.reason.endswith(f", in features) (at clip {rig.CLIPS[0]})")
    assert not isinstance(good.features[backend], Failure)
    assert not isinstance(good.activations[backend, "onnxrt", "float32"], Failure)
    assert again.features[backend] == failed


def test_a_batch_that_raises_names_the_clip_that_did(golden: Path) -> None:
    backend = f"faulty.at_work:RaisesFor:clip={rig.CLIPS[1]}"
    with rig.target() as local:
        (bad,) = local.run([job(golden, [backend], [])])
    failed = bad.features[backend]
    assert isinstance(failed, Failure)
    assert failed.reason.endswith(f"(at clip {rig.CLIPS[1]})")


def test_a_backend_is_asked_for_what_it_declares_only(golden: Path) -> None:
    backend = "faulty.at_work:LastStageOnly"
    with rig.target() as local:
        (result,) = local.run([job(golden, [backend], ["onnxrt"])])
    outputs = result.features[backend]
    assert not isinstance(outputs, Failure), outputs
    assert {tap for o in outputs for tap in o.taps} == {"features/compressed"}


def test_a_plugin_that_answers_supports_with_a_word_is_refused() -> None:
    with rig.target() as local, pytest.raises(ConfigError, match=r"supports\(\) gave 'no'") as e:
        local.describe("backend", "faulty.at_work:SaysNo", [systems.load(rig.SYSTEM).frontend])
    assert e.value.hint == "give None, or Unsupported(reason)"


def test_two_artifacts_may_share_a_file(golden: Path) -> None:
    whole = job(golden, [], ["onnxrt"])
    ((_, onnx),) = whole.models
    wrong = replace(onnx, precision="other", input=replace(onnx.input, name="nonsense"))
    with rig.target() as local:
        local.run([whole])
        with pytest.raises(ModelError, match="nonsense"):
            list(local.run([whole, replace(whole, models=[("onnxrt", wrong)])]))


def test_a_runtime_that_raises_for_one_clip_is_asked_for_the_next(golden: Path) -> None:
    whole = job(golden, [], ["faulty.runtimes:Raises"])  # at the second clip that it is given
    key = "", "faulty.runtimes:Raises", "float32"
    with rig.target() as local:
        (bad,) = local.run([whole])
        (good,) = local.run([whole])
    failed, outputs = bad.activations[key], good.activations[key]
    assert isinstance(failed, Failure)
    assert failed.reason.startswith("RuntimeError: kernel not implemented (runtimes.py, line ")
    assert failed.reason.endswith(f"(at clip {rig.CLIPS[1]})")
    assert not isinstance(outputs, Failure)
    assert [sorted(o.taps) for o in outputs] == [sorted(t) for t in whole.taps]


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("kind", "plugin", "cause"),
    [
        ("backend", "Dies", "died of SIGABRT"),
        ("backend", "Hangs", "no answer within 4 s: stopped"),
        ("runtime", "DiesOpening", "died of SIGABRT"),
        ("runtime", "HangsRunning", "no answer within 4 s: stopped"),
    ],
)
def test_what_died_or_hung_is_tried_once(kind: str, plugin: str, cause: str, golden: Path, tmp_path: Path) -> None:
    told = tmp_path / "tried"
    spec = f"faulty.at_work:{plugin}:told={told}"
    one = job(golden, [spec], []) if kind == "backend" else job(golden, [], [spec])
    with rig.target(4.0) as local:
        results = [result for _ in range(2) for result in local.run([one])]
    for result in results:
        failed = result.features[spec] if kind == "backend" else result.activations["", spec, "float32"]
        assert isinstance(failed, Failure)
        assert failed.reason.startswith(cause)
    assert told.read_bytes() == b"."


@pytest.mark.usefixtures("alone")
def test_a_worker_killed_between_two_jobs_is_started_again(golden: Path) -> None:
    one = job(golden)
    with rig.target() as local:
        (before,) = local.run([one])
        for child in psutil.Process().children():
            child.kill()
        assert until(lambda: all(c.status() == psutil.STATUS_ZOMBIE for c in psutil.Process().children()))
        local._failed.clear()
        (after,) = local.run([one])
    assert not isinstance(before.activations["numpy", "onnxrt", "float32"], Failure)
    assert not isinstance(after.activations["numpy", "onnxrt", "float32"], Failure)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("spec", "cause"),
    [
        ("faulty.aborts_on_import:Runtime", "died of SIGABRT"),
        ("faulty.hangs_on_import:Runtime", "no answer within 5 s: stopped"),
        ("faulty.no_such_module:Runtime", "can't be imported: No module named 'faulty.no_such_module'"),
        ("faulty.runtimes:NoSuchClass", "can't be imported: module 'faulty.runtimes' has no attribute 'NoSuchClass'"),
    ],
)
def test_a_plugin_that_cannot_be_loaded_is_a_configuration_error(
    spec: str, cause: str, golden: Path, tmp_path: Path
) -> None:
    with rig.target(5.0) as local, pytest.raises(ConfigError, match=r"loaded|imported") as error:
        rig.run(local, golden, tmp_path / "reports", runtimes=(spec, "onnxrt"))
    assert cause in error.value.message
    assert spec in error.value.message
    assert rig.left_over(tmp_path / "reports") == []


def start(golden: Path, reports: Path, runtime: str, told: Path) -> subprocess.Popen[str]:
    """`parity run` on its way, with a runtime that hangs."""
    arguments = ["run", "--system", "commands-cnn", "--backend", "numpy", "--precision", "float32",
                 "--runtime", "onnxrt", "--runtime", runtime, "--golden", str(golden),
                 "--report", str(reports)]  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-m", "parity", *arguments],
        cwd=rig.ROOT, env=rig.environment(TELL_HANGING=str(told)), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        # What a shell runs in the background ignores Ctrl-C, and so would what these tests start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip


def gone(processes: list[psutil.Process]) -> bool:
    return until(lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes))


def hanging(process: subprocess.Popen[str], told: Path) -> list[psutil.Process]:
    """The workers of a run whose runtime hangs."""
    assert until(told.exists), process.communicate(timeout=5)
    found = psutil.Process(process.pid).children(recursive=True)
    assert len(found) == 3
    return found


@pytest.mark.usefixtures("alone")
def test_workers_end_when_the_run_is_killed(golden: Path, tmp_path: Path) -> None:
    told = tmp_path / "hangs"
    with start(golden, tmp_path / "reports", "faulty.runtimes:Hangs", told) as process:
        found = hanging(process, told)
        process.kill()
        process.communicate()
        assert gone(found)


@pytest.mark.parametrize(
    ("runtime", "number"),
    [
        ("faulty.runtimes:Hangs", signal.SIGINT),
        ("faulty.hangs_on_import:Runtime", signal.SIGINT),
        ("faulty.runtimes:Hangs", signal.SIGTERM),  # how CI ends a job
    ],
)
@pytest.mark.usefixtures("alone")
def test_ctrl_c_leaves_nothing_behind(runtime: str, number: signal.Signals, golden: Path, tmp_path: Path) -> None:
    told = tmp_path / "hangs"
    with start(golden, tmp_path / "reports", runtime, told) as process:
        if "import" in runtime:
            assert until(lambda: len(psutil.Process(process.pid).children()) == 3)
            found = psutil.Process(process.pid).children(recursive=True)
        else:
            found = hanging(process, told)
        os.kill(process.pid, number)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 130
        assert said.strip().splitlines()[-1] == "interrupted"
        assert "Traceback" not in said
        assert gone(found)
    assert rig.left_over(tmp_path / "reports") == []


def test_what_a_plugin_prints_does_not_reach_stdout(golden: Path, tmp_path: Path) -> None:
    done = rig.process("run", "--system", "commands-cnn", "--backend", "numpy", "--precision", "float32",
                      "--runtime", "faulty.runtimes:Prints", "--golden", golden, "--report", tmp_path,
                      "--format", "json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["exit_code"] == 0


def test_threads_and_hash_seed_are_fixed_and_the_folder_is_no_place_to_import_from(tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemError('the current folder shadows NumPy')\n")
    done = rig.process("run", "--system", rig.SYSTEM, "--backend", "numpy", "--precision", "float32",
                      "--runtime", "onnxrt", "--golden", rig.goldens(tmp_path / "golden", rig.CLIPS[:1]),
                      "--report", tmp_path / "reports",
                      cwd=tmp_path, PYTHONSAFEPATH="1")  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_target_can_be_closed_twice(tmp_path: Path) -> None:
    local = LocalTarget(1, 10.0)
    local.describe("backend", "numpy", [])
    local.close()
    local.close()
    alive = [c for c in psutil.Process().children() if c.status() != psutil.STATUS_ZOMBIE]
    assert not [c for c in alive if "agent" in " ".join(c.cmdline())]
