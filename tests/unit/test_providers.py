"""Execution providers: none is taken unasked, none that is absent, and none whose answers are others."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from typer.testing import CliRunner

from daemon.bootstrap import House
from daemon.cli.main import app
from daemon.cli.provider import Tried, providers
from daemon.cli.provider import judge as compared
from daemon.config import bundled_models, load
from daemon.domain.output import OutputKind
from daemon.domain.provider import Provider
from daemon.errors import FatalError, OverreadError, UnprocessableError
from daemon.inference.agreement import LIMITS, distances, examine, judge
from daemon.inference.bundle import GOLDEN, load_bundle, needed
from daemon.inference.engine import Engine
from daemon.inference.mc_dropout import infer
from daemon.inference.provider import ProviderError, installed, need
from daemon.inference.reader import BundleReader
from daemon.inference.session import Model, goldens, replay
from daemon.inference.timing import medians
from daemon.results import report
from daemon.results.encode import encode
from tests.manifests import BRAIN
from tests.networks import prepared
from tests.sources import case, coarse_head
from tests.tiny_bundle import make_tiny_bundle, sign

Array = NDArray[np.float32]
SHIPPED = sorted(bundled_models().glob("*/*"))
ABSENT = [provider for provider in Provider if provider not in installed()]
by_openvino = pytest.mark.skipif(
    Provider.OPENVINO in ABSENT, reason="onnxruntime-ep-openvino is not installed: pip install -e .[openvino]"
)


@pytest.fixture(scope="module")
def petct() -> Model:
    """The shipped model for PET/CT: an outline comes of its golden input, and it has a novelty bank."""
    return Model(load_bundle(bundled_models() / "petct" / "1.0.0"), threads=1)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the tiny bundle."""
    folder = tmp_path_factory.mktemp("models")
    make_tiny_bundle(folder / BRAIN.name / BRAIN.version)
    return folder


@pytest.mark.skipif(not ABSENT, reason="every provider is installed")
@pytest.mark.parametrize("provider", ABSENT)
def test_one_that_is_not_installed_is_refused_with_its_package(provider: Provider, tiny: Path) -> None:
    """By a model, by a reader before it loads any, and by the house whose workers would start."""
    package = "onnxruntime-gpu" if provider.by_gpu else "onnxruntime-ep-openvino"
    with pytest.raises(ProviderError, match=rf"inference\.provider = {provider} needs {package}.*pip install"):
        need(provider)
    with pytest.raises(ProviderError, match=package):
        Model(needed(tiny)[0], provider=provider)
    with pytest.raises(ProviderError, match=package):
        BundleReader(needed(tiny), threads=1, provider=provider)


def written(folder: Path, text: str) -> Path:
    path = folder / "overread.toml"
    path.write_text(f"[inference]\n{text}\n")
    (folder / "data").mkdir(exist_ok=True)
    return path


def test_the_setting_is_one_of_the_list_and_goes_with_no_bound_that_breaks_it(tmp_path: Path) -> None:
    """RLIMIT_AS counts the addresses that CUDA reserves; of the others it counts what is used."""
    assert load(written(tmp_path, "")).inference.provider is Provider.CPU
    with pytest.raises(FatalError, match=r"inference\.provider: .*'cpu', 'openvino', 'cuda' or 'tensorrt'"):
        load(written(tmp_path, 'provider = "gpu"'))
    for provider in (Provider.CUDA, Provider.TENSORRT):
        with pytest.raises(FatalError, match=rf"memory_mb = 4096 .*{provider}.*set memory_mb = 0"):
            load(written(tmp_path, f'provider = "{provider}"\nmemory_mb = 4096'))
        assert load(written(tmp_path, f'provider = "{provider}"')).inference.provider is provider
    assert load(written(tmp_path, 'provider = "openvino"\nmemory_mb = 4096')).inference.memory_mb == 4096


@pytest.mark.skipif(not ABSENT, reason="every provider is installed")
def test_a_daemon_does_not_start_with_one_that_is_absent(tmp_path: Path) -> None:
    """`serve` and its workers ask the house for its bundles first."""
    house = House(load(written(tmp_path, f'provider = "{ABSENT[0]}"')))
    with pytest.raises(ProviderError, match="pip install"):
        _ = house.bundles


def test_the_process_that_workers_are_forked_from_has_no_session(tmp_path: Path) -> None:
    """What is begun before a fork does not outlive it: not even the library is loaded above."""
    code = (
        "import sys, daemon.workforce, daemon.executors.worker, daemon.config as config; from pathlib import Path\n"
        "print(len(daemon.workforce.House(config.load(Path(sys.argv[1]))).bundles), 'onnxruntime' in sys.modules)"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, str(written(tmp_path, ""))], capture_output=True, text=True, check=True
    )
    assert told.stdout.split() == [str(len(SHIPPED)), "False"]


def test_a_session_that_fell_back_to_the_cpu_is_refused(tiny: Path) -> None:
    """ONNX Runtime opens it all the same, and would read every study slowly without a word."""
    engine = Engine(Provider.CPU, 1)
    engine.provider = Provider.CUDA
    with pytest.raises(ProviderError, match=r"provider = cuda cannot start .* set it to cpu"):
        engine.open((needed(tiny)[0].path / "encoder.onnx").read_bytes(), arena=True)


def moved(values: Array, by: float, slope: float, intercept: float) -> Array:
    """Return logits whose calibrated probability is `by` further from certain."""
    probability = 1 / (1 + np.exp(-(slope * values.astype(np.float64) + intercept)))
    towards = probability - np.where(probability > 0.5, by, -by)
    return np.asarray((np.log(towards / (1 - towards)) - intercept) / slope, dtype=np.float32)


def tumour(model: Model, golden: dict[str, Array], share: float) -> dict[str, Array]:
    fit = model.manifest.calibration
    by = LIMITS["tumour probability"] * share
    return {"tumour_logit": moved(golden["tumour_logit"], by, fit.platt_slope, fit.platt_intercept)}


def hazard(model: Model, golden: dict[str, Array], share: float) -> dict[str, Array]:
    del model
    return {"risk": golden["risk"] - np.float32(np.log1p(LIMITS["hazard"] * share))}


def edge(model: Model) -> float:
    """Return the logit from which on a voxel is outlined."""
    fit = model.manifest.calibration
    return float((np.log(fit.mask_threshold / (1 - fit.mask_threshold)) - fit.voxel_intercept) / fit.voxel_slope)


def outline(model: Model, golden: dict[str, Array], share: float) -> dict[str, Array]:
    """Take so many voxels out of the outline that its Dice is what is wanted: 2(n-k)/(2n-k) = 1-d."""
    at = edge(model)
    logits = golden["logits"].copy()
    inside = np.argsort(np.where(logits >= at, logits, np.inf), axis=None)[: int((logits >= at).sum())]
    lost = LIMITS["Dice lost"] * share
    taken = 2 * len(inside) * lost / (1 + lost)
    logits.flat[inside[: int(np.floor(taken) if share < 1 else np.ceil(taken))]] = at - 0.01
    return {"logits": logits}


def voxels(model: Model, golden: dict[str, Array], share: float) -> dict[str, Array]:
    """Move every voxel that stays on its side of the outline."""
    fit = model.manifest.calibration
    far = np.abs(golden["logits"] - edge(model)) > 1
    by = LIMITS["voxel log-odds"] * share / fit.voxel_slope / far.mean()
    return {"logits": golden["logits"] + np.where(far, np.float32(by), np.float32(0))}


def novelty(model: Model, golden: dict[str, Array], share: float) -> dict[str, Array]:
    scale = model._bank.scale if model._bank else np.ones(1, dtype=np.float32)
    change = np.zeros_like(scale)
    change[0] = 1
    by = LIMITS["novelty"] * share / model.novelty_moved(change)
    deepest = golden["f4"].copy()
    deepest[:, 0] += np.float32(by)
    return {"f4": deepest}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("tumour probability", tumour),
        ("hazard", hazard),
        ("Dice lost", outline),
        ("voxel log-odds", voxels),
        ("novelty", novelty),
    ],
)
def test_each_limit_holds_and_lets_through(
    petct: Model, name: str, change: Callable[[Model, dict[str, Array], float], dict[str, Array]]
) -> None:
    """An output just within a limit agrees; just beyond it the verdict names it, how far, and the limit."""
    golden = goldens(petct.bundle)
    within, beyond = (judge(distances(golden, golden | change(petct, golden, s), petct)) for s in (0.97, 1.03))
    assert within.ok
    assert within.detail.startswith("golden outputs within the limits: ")
    assert not beyond.ok
    assert beyond.detail.startswith(f"golden outputs differ too much: {name} by ")
    assert beyond.detail.endswith(f"limit {LIMITS[name]:g}")


def test_the_worst_member_counts(petct: Model) -> None:
    """An output of the second member that is no number is infinitely far, whatever the first one's are."""
    pair = Model(petct.bundle, threads=1)
    pair.members = (*pair.members, *pair.members)
    pair._bank = None
    golden = goldens(petct.bundle)
    golden |= {f"member-2/{name}": value for name, value in golden.items()}
    assert max(distances(golden, golden, pair).values()) == 0
    found = distances(golden, golden | {"member-2/risk": golden["risk"] * np.float32(np.nan)}, pair)
    assert found["hazard"] == np.inf
    assert not judge(found).ok


def test_on_the_cpu_a_single_bit_counts(tiny: Path, tmp_path: Path) -> None:
    """The limits are for other providers alone."""
    assert examine(Model(needed(tiny)[0], threads=1)).detail == "golden outputs reproduced to the bit"
    path = make_tiny_bundle(tmp_path / "brain")
    with_other_goldens(path, lambda golden: {"risk": np.nextafter(golden["risk"], np.float32(9))})
    model = Model(load_bundle(path), threads=1)
    verdict = examine(model)
    assert (verdict.ok, verdict.detail) == (False, "differs in risk")
    assert judge(distances(goldens(model.bundle), replay(model, goldens(model.bundle)), model)).ok


def with_other_goldens(path: Path, change: Callable[[dict[str, Array]], dict[str, Array]]) -> None:
    """Seal the bundle at `path` anew with other golden outputs."""
    golden = goldens(load_bundle(path))
    values: dict[str, Array] = golden | change(golden)
    np.savez_compressed(path / GOLDEN, **values)  # type: ignore[arg-type]  # numpy types its flags into the same call
    sign(path)


def test_the_report_names_a_provider_that_is_not_the_cpu(tmp_path: Path) -> None:
    """Among the algorithm's parameters; what the CPU made has the bytes that it always had."""
    coarse_head(tmp_path)
    made = case(sorted(tmp_path.rglob("*.dcm")), 0)
    assert b"execution provider" not in made.contents[OutputKind.REPORT]
    findings = replace(made.context.findings, provider=Provider.OPENVINO)
    other = encode(report.build(replace(made.context, findings=findings), None))
    assert b"execution provider openvino" in other


def site(folder: Path, models: Path, provider: Provider = Provider.CPU) -> House:
    return House(load(written(folder, f'provider = "{provider}"\nmodels = "{models}"\nthreads = 1')))


def test_doctor_measures_where_there_is_a_choice_or_it_is_told_to(tiny: Path, tmp_path: Path) -> None:
    """With the CPU alone it says so, and measures no model."""
    house = site(tmp_path, tiny)
    if installed() == (Provider.CPU,):
        assert providers(house, measure=False) == "cpu; no other is installed"
    assert providers(house, measure=True).startswith("cpu 0.")


def test_doctor_says_which_is_the_fastest_that_agrees() -> None:
    """A refused one is never it; one that is hardly faster is not worth other answers."""
    fine = Tried(provider=Provider.CPU, seconds=0.2)
    slow = Tried(provider=Provider.OPENVINO, seconds=0.19, placed=Counter(a=9, b=1), verdicts=["all well"])
    quick = Tried(provider=Provider.CUDA, seconds=0.02, placed=Counter(a=9, b=1), verdicts=["all well"])
    wrong = Tried(provider=Provider.TENSORRT, fault="it answers otherwise")
    told = compared([fine, slow, wrong], Provider.CPU)
    assert "openvino 0.190 s, 9 of 10 nodes, all well" in told
    assert "tensorrt refused (it answers otherwise)" in told
    assert told.endswith("cpu is as fast as any here")
    assert compared([fine, slow, quick], Provider.CPU).endswith(
        "set inference.provider = cuda: 10.0 times as fast here"
    )
    with pytest.raises(OverreadError, match=r"answers otherwise\); set inference\.provider = cuda$"):
        compared([fine, quick, wrong], Provider.TENSORRT)


def test_verify_takes_a_provider(tiny: Path) -> None:
    """`models verify --provider` runs golden inputs there, and says why it cannot."""
    runner = CliRunner()
    told = runner.invoke(app, ["models", "verify", "--models", str(tiny), "--provider", "cpu", "--json"])
    assert json.loads(told.stdout)[0]["detail"] == "golden outputs reproduced to the bit"
    if ABSENT:
        told = runner.invoke(app, ["models", "verify", "--models", str(tiny), "--provider", ABSENT[0]])
        assert isinstance(told.exception, ProviderError)


@by_openvino
@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.parent.name)
def test_openvino_agrees_on_what_is_shipped(path: Path) -> None:
    """It runs all nodes but a few, within the limits, and gives the same bits again."""
    model = Model(load_bundle(path), threads=1, provider=Provider.OPENVINO)
    verdict = examine(model)
    assert verdict.ok, verdict.detail
    assert model.engine.placed["OpenVINOExecutionProvider"] > 0.9 * model.engine.placed.total()
    golden = goldens(model.bundle)
    first, second = replay(model, golden), replay(model, golden)
    assert all(np.array_equal(first[name], second[name]) for name in first)


@by_openvino
def test_a_study_read_on_openvino_says_so_and_repeats(tiny: Path) -> None:
    """Same study, same provider: same bits, in a model that was loaded anew too."""
    bundle = needed(tiny)[0]
    models = [Model(bundle, threads=1, provider=Provider.OPENVINO) for _ in range(2)]
    first, second = (infer(model, prepared(), "study") for model in models)
    assert np.array_equal(first.probability, second.probability)
    assert first.tumour_logits == second.tumour_logits
    assert len(medians(models)) == len(models)


@by_openvino
def test_a_worker_does_not_start_with_answers_that_are_others(tmp_path: Path) -> None:
    """A graph whose weights were changed after its goldens were made is refused, with numbers and mend."""
    path = make_tiny_bundle(tmp_path / "models" / BRAIN.name / BRAIN.version)
    graph = onnx.load(path / "heads.onnx")
    weights = next(one for one in graph.graph.initializer if one.name == "shift")
    weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights) + np.float32(50), "shift"))
    onnx.save(graph, path / "heads.onnx")
    sign(path)
    reader = BundleReader(needed(tmp_path / "models"), threads=1, provider=Provider.OPENVINO)
    with pytest.raises(ProviderError, match=r"on openvino: .*hazard by .*, limit 0\.05.*provider to cpu"):
        reader.warm()
    with pytest.raises(UnprocessableError, match=r"limit 0\.05.*; restart, retry the job"):
        reader.read(reader.bundles()[0].ref, {}, "1.2")
    with pytest.raises(OverreadError, match="openvino refused"):
        providers(site(tmp_path, tmp_path / "models", Provider.OPENVINO), measure=False)


def _warmed(folder: Path) -> None:
    BundleReader(needed(folder), threads=1, provider=Provider.OPENVINO).warm()


@by_openvino
def test_forked_workers_make_sessions_of_their_own(tiny: Path) -> None:
    """As Celery's pool does, of a process that has none."""
    code = (
        "import sys, multiprocessing; from pathlib import Path; from tests.unit.test_providers import _warmed\n"
        "context = multiprocessing.get_context('fork')\n"
        "hands = [context.Process(target=_warmed, args=(Path(sys.argv[1]),)) for _ in range(2)]\n"
        "[hand.start() for hand in hands]; [hand.join(120) for hand in hands]\n"
        "print(*(hand.exitcode for hand in hands))"
    )
    told = subprocess.run([sys.executable, "-c", code, str(tiny)], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["0", "0"]
