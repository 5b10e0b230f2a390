"""Manifests of the two kinds of bundle, for tests of decisions."""

from dataclasses import replace

from daemon.domain.model_bundle import (
    Calibration,
    Channel,
    Dropout,
    Eligibility,
    Graphs,
    Manifest,
    Normalisation,
    Recipe,
    Target,
)

CALIBRATION = Calibration(
    platt_slope=1.0,
    platt_intercept=0.0,
    threshold=0.5,
    uncertain_low=0.4,
    uncertain_high=0.6,
    mask_threshold=0.5,
    explore_threshold=0.05,
    min_lesion_ml=0.1,
    entropy_limit=0.8,
    probability_sd_limit=0.25,
    risk_cuts=(-0.5, 0.5),
    baseline_survival={1: 0.9, 2: 0.7, 5: 0.4},
    risk_centre=0.0,
)
# As of a bundle whose survival head saw no follow-up.
UNFITTED = replace(CALIBRATION, risk_cuts=(0.0, 0.0), risk_centre=0.0, baseline_survival={})
BRAIN = Manifest(
    name="brain-mri",
    version="0.0.1",
    title="test",
    licence="Apache-2.0",
    opset=17,
    onnxruntime="any",
    quantisation="none",
    eligibility=Eligibility(
        modalities=("MR",),
        body_parts=("HEAD", "BRAIN"),
        sequences=("FLAIR", "T2", "T1C", "T1"),
        min_slices=10,
        max_slice_gap_mm=8.0,
    ),
    recipe=Recipe(
        spacing=(4.0, 1.0, 1.0),
        neighbours=5,
        multiple=16,
        channels=(Channel(role="MR", normalisation=Normalisation.FOREGROUND_ZSCORE, low=-3, high=6),),
    ),
    graphs=Graphs(encoder="encoder.onnx", decoder="decoder.onnx", heads="heads.onnx"),
    dropout=Dropout(
        rate=0.1,
        passes=4,
        decoder_masks={"m0": 16, "m1": 32, "m2": 64, "m3": 128, "m4": 256},
        head_masks={"h_detect": 256, "h_survive": 32},
    ),
    calibration=CALIBRATION,
    target=Target(
        category=("49755003", "SCT", "Morphologically Abnormal Structure"),
        type=("108369006", "SCT", "Neoplasm"),
        region=("12738006", "SCT", "Brain"),
        procedure=("25056-3", "LN", "MRI unspecified body region"),
        label="Brain tumour",
    ),
)
PETCT = replace(
    BRAIN,
    name="petct",
    eligibility=Eligibility(modalities=("PT", "CT"), body_parts=(), min_slices=10, max_slice_gap_mm=8.0),
    recipe=Recipe(
        spacing=(4.0, 4.0, 4.0),
        neighbours=5,
        multiple=16,
        channels=(
            Channel(role="PET", normalisation=Normalisation.WINDOW, low=0, high=12),
            Channel(role="CT", normalisation=Normalisation.WINDOW, low=-250, high=350),
        ),
    ),
)
