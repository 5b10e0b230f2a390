"""The whole of reading, with a model whose weights are set by hand: bright is tumour."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from daemon.domain.finding import Answer
from daemon.domain.model_bundle import BundleRef
from daemon.domain.reasons import Reason
from daemon.errors import FatalError, UnprocessableError
from daemon.imaging.volume import Grid, Volume
from daemon.inference.bundle import GOLDEN, MANIFEST, load_bundle
from daemon.inference.reader import BundleReader, read_study
from daemon.inference.session import Model, verify
from tests.manifests import BRAIN, PETCT
from tests.tiny_bundle import make_tiny_bundle, sign

AXIAL = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
SAGITTAL = ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0))
CORONAL = ((0.0, -1.0, 0.0), (0.0, 0.0, -1.0), (1.0, 0.0, 0.0))
OBLIQUE = ((0.0, -0.6, 0.8), (0.0, 0.8, 0.6), (1.0, 0.0, 0.0))
MODELS = Path(__file__).parents[2] / "models"
HEAD = (-8.0, 10.0, 4.0)
BALL = (14.0, -6.0, 18.0)
RADIUS = 18.0


@pytest.fixture(scope="module")
def brain(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The MR bundle."""
    return Model(load_bundle(make_tiny_bundle(tmp_path_factory.mktemp("bundles") / "brain")), threads=1)


@pytest.fixture(scope="module")
def petct(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The PET/CT bundle."""
    return Model(load_bundle(make_tiny_bundle(tmp_path_factory.mktemp("bundles") / "petct", PETCT)), threads=1)


def lattice(axes: tuple[tuple[float, float, float], ...] = AXIAL, spacing: float = 2.0) -> Grid:
    """Return a cube of 60 voxels' edge around the origin."""
    half = 59 * spacing / 2
    origin = -half * np.sum(np.array(axes), axis=0)
    return Grid(
        size=(60, 60, 60),
        spacing=(spacing, spacing, spacing),
        origin=(float(origin[0]), float(origin[1]), float(origin[2])),
        axes=(axes[0], axes[1], axes[2]),
    )


def ball(grid: Grid, centre: tuple[float, float, float], radius: float) -> NDArray[np.bool_]:
    """Return the voxels of `grid` within `radius` mm of `centre`."""
    points = grid.points(np.indices(grid.size).reshape(3, -1).T)
    return np.asarray((np.linalg.norm(points - centre, axis=1) < radius).reshape(grid.size))


def head(grid: Grid, *, tumour: bool = True) -> Volume:
    """Return a head of even signal with some noise, and a bright ball in it."""
    rng = np.random.default_rng(4)
    voxels = np.where(ball(grid, HEAD, 52), 100.0, 2.0) + rng.normal(0, 2, grid.size)
    if tumour:
        voxels[ball(grid, BALL, RADIUS)] = 300
    return Volume(voxels=voxels.astype(np.float32), grid=grid)


def trunk(*, tumour: bool = True) -> Mapping[str, Volume]:
    """Return a PET with a hot ball of SUV 8, and a CT that covers half of it."""
    grid = lattice(spacing=4.0)
    suv = np.where(ball(grid, HEAD, 100), 1.0, 0.0).astype(np.float32)
    if tumour:
        suv[ball(grid, BALL, RADIUS)] = 8.0
    fine = lattice()
    ct = np.where(ball(fine, HEAD, 100), 40.0, -1000.0).astype(np.float32)
    return {"PET": Volume(voxels=suv, grid=grid), "CT": Volume(voxels=ct, grid=fine)}


@pytest.mark.parametrize("axes", [AXIAL, SAGITTAL, CORONAL, OBLIQUE], ids=["axial", "sagittal", "coronal", "oblique"])
def test_a_bright_ball_is_outlined_where_it_is(brain: Model, axes: tuple[tuple[float, float, float], ...]) -> None:
    """In every orientation the outline covers the ball on the source grid, and its centre is the ball's."""
    grid = lattice(axes)
    reading = read_study({"MR": head(grid)}, brain, "study")
    truth = ball(grid, BALL, RADIUS)
    found = reading.labels == 1
    assert reading.findings.answer is Answer.LIKELY
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.9
    assert reading.findings.lesions[0].centre_mm == pytest.approx(BALL, abs=1.0)
    assert reading.findings.lesions[0].longest_mm == pytest.approx(2 * RADIUS, abs=4)


def test_doubt_sits_at_the_edge(brain: Model) -> None:
    """Voxel variance is above zero, highest at the ball's edge, and none where nothing is conceivable."""
    grid = lattice()
    reading = read_study({"MR": head(grid)}, brain, "study")
    edge = ball(grid, BALL, RADIUS + 2) & ~ball(grid, BALL, RADIUS - 2)
    assert reading.sd[edge].mean() > 2 * reading.sd[ball(grid, BALL, RADIUS - 6)].mean()
    assert reading.sd[ball(grid, (14, -6, -40), 8)].max() == 0
    assert 0 < reading.findings.lesions[0].volume_sd_ml < reading.findings.lesions[0].volume_ml


def test_an_even_head_is_not_likely(brain: Model) -> None:
    """Nothing bright is NOT LIKELY, without lesions and labels."""
    reading = read_study({"MR": head(lattice(), tumour=False)}, brain, "study")
    assert reading.findings.answer is Answer.NOT_LIKELY
    assert reading.findings.lesions == ()
    assert not reading.labels.any()


def test_uptake_comes_from_the_pet(petct: Model) -> None:
    """SUVmax, SUVpeak, MTV and TLG are those of the hot ball, also where the CT does not reach."""
    reading = read_study(trunk(), petct, "study")
    lesion = reading.findings.lesions[0]
    assert reading.findings.answer is Answer.LIKELY
    assert lesion.uptake is not None
    assert (lesion.uptake.suv_max, lesion.uptake.suv_peak) == pytest.approx((8.0, 8.0))
    assert lesion.uptake.mtv_ml == pytest.approx(4 / 3 * np.pi * (RADIUS / 10) ** 3, rel=0.35)
    assert lesion.uptake.tlg == pytest.approx(lesion.uptake.suv_mean * lesion.volume_ml)


def test_a_cold_trunk_is_not_likely(petct: Model) -> None:
    """Without hot spot the answer is NOT LIKELY."""
    assert read_study(trunk(tumour=False), petct, "study").findings.answer is Answer.NOT_LIKELY


def test_the_same_study_reads_the_same_to_the_bit(brain: Model) -> None:
    """Equal keys give equal findings and maps; another study's key gives other passes."""
    volumes = {"MR": head(lattice())}
    first, again, other = (read_study(volumes, brain, key) for key in ("a", "a", "b"))
    assert first.findings == again.findings
    assert np.array_equal(first.sd, again.sd)
    assert first.findings.seed != other.findings.seed
    assert not np.array_equal(first.sd, other.sd)


def test_a_slab_too_thin_for_the_model_is_refused(brain: Model) -> None:
    """Ten slices of half a millimetre are no head, and say so."""
    grid = replace(lattice(), size=(10, 60, 60), spacing=(0.5, 2.0, 2.0))
    thin = Volume(voxels=np.ones(grid.size, dtype=np.float32), grid=grid)
    with pytest.raises(UnprocessableError, match="slices") as caught:
        read_study({"MR": thin}, brain, "study")
    assert caught.value.reason == Reason.TOO_FEW_SLICES


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("role", ["PET", "CT", "MR"])
def test_undefined_voxels_are_no_answer(brain: Model, petct: Model, role: str, value: float) -> None:
    """NaN compares as below every threshold: it must never become NOT LIKELY. The message names the series."""
    volumes = {"MR": head(lattice())} if role == "MR" else trunk()
    volumes[role].voxels[30, 30, 30] = value
    with pytest.raises(UnprocessableError, match=f"voxels of the {role} are infinite or undefined") as caught:
        read_study(volumes, brain if role == "MR" else petct, "study")
    assert caught.value.reason == Reason.MODEL


def test_the_quantised_bundle_gives_no_answer_to_undefined_voxels() -> None:
    """QuantizeLinear makes an ordinary number of NaN, so that nothing shows in what the graphs put out."""
    model = Model(load_bundle(MODELS / "petct" / "1.0.0"), threads=1)
    volumes = trunk()
    volumes["PET"].voxels[30, 30, 30] = np.nan
    with pytest.raises(UnprocessableError, match="infinite or undefined"):
        read_study(volumes, model, "study", 0)


def test_a_constant_volume_is_not_likely(brain: Model) -> None:
    """An empty acquisition does not crash and holds no tumour."""
    blank = Volume(voxels=np.zeros((60, 60, 60), dtype=np.float32), grid=lattice())
    assert read_study({"MR": blank}, brain, "study").findings.answer is Answer.NOT_LIKELY


def test_the_reader_knows_its_bundles(tmp_path: Path) -> None:
    """It reads with an installed bundle and names one that is not."""
    bundle = load_bundle(make_tiny_bundle(tmp_path / "brain"))
    reader = BundleReader([bundle], threads=1, passes=2)
    assert [b.ref for b in reader.bundles()] == [bundle.ref]
    assert reader.read(bundle.ref, {"MR": head(lattice())}, "1.2.3").findings.passes == 2
    with pytest.raises(UnprocessableError, match="not installed"):
        reader.read(BundleRef(name="other", version="1", digest="0"), {}, "1.2.3")


def test_a_tiny_bundle_is_whole(brain: Model) -> None:
    """Its golden outputs come back to the bit."""
    assert verify(brain) == ()


def test_an_altered_golden_output_is_named(tmp_path: Path) -> None:
    """One changed bit in the reference names the output that differs."""
    path = make_tiny_bundle(tmp_path / "brain")
    with np.load(path / GOLDEN) as golden:
        values = {name: golden[name] for name in golden.files}
    values["logits"][0, 0, 0] += 1
    np.savez_compressed(path / GOLDEN, **values)
    sign(path)
    assert verify(Model(load_bundle(path), threads=1)) == ("logits",)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('encoder = "encoder.onnx"', 'encoder = "../encoder.onnx"', r"\.\./encoder"),
        ("rate = 0.1", "rate = 0.1\nratio = 1", "ratio"),
        ("passes = 4", 'passes = "many"', "passes"),
        ("title =", "title", "invalid"),
    ],
    ids=["a graph outside", "an unknown key", "a wrong type", "no TOML"],
)
def test_a_faulty_manifest_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    """What is wrong in bundle.toml is said, although its digest is right."""
    path = make_tiny_bundle(tmp_path / "brain")
    text = (path / MANIFEST).read_text()
    assert old in text
    (path / MANIFEST).write_text(text.replace(old, new, 1))
    sign(path)
    with pytest.raises(FatalError, match=said):
        load_bundle(path)


@pytest.mark.parametrize("name", [MANIFEST, str(GOLDEN), BRAIN.graphs.heads])
def test_a_missing_part_is_named(tmp_path: Path, name: str) -> None:
    """A bundle without manifest, golden outputs or a graph is refused, even when signed so."""
    path = make_tiny_bundle(tmp_path / "brain")
    (path / name).unlink()
    sign(path)
    with pytest.raises(FatalError, match=Path(name).name):
        load_bundle(path)


def test_a_graph_that_is_none_is_refused(tmp_path: Path) -> None:
    """Bytes that are no ONNX graph are a fatal error that names the bundle."""
    path = make_tiny_bundle(tmp_path / "brain")
    (path / BRAIN.graphs.heads).write_bytes(b"no graph")
    sign(path)
    with pytest.raises(FatalError, match="brain-mri"):
        Model(load_bundle(path), threads=1)
