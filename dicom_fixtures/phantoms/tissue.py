"""MR signal by contrast and the strata that are asked for by name."""

# Signal of (CSF, grey, white matter, fat, muscle) and of tumour rim and core, as fractions of white matter's brightest.
SIGNAL = {
    "FLAIR": ((0.12, 0.62, 0.50, 0.70, 0.30), (0.98, 0.88)),
    "T2": ((1.00, 0.58, 0.42, 0.65, 0.20), (0.86, 0.92)),
    "T1": ((0.15, 0.50, 0.72, 1.00, 0.40), (0.40, 0.32)),
    "T1C": ((0.15, 0.50, 0.70, 1.00, 0.45), (0.42, 1.00)),
}
# Grey levels of Colin27 and ICBM 152 at the middle of CSF, grey and white matter; fat and muscle outside the brain.
LEVELS = (20.0, 75.0, 110.0)
OUTSIDE_LEVELS = (0.0, 40.0, 200.0)
