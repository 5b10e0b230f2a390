"""The report of all benchmarks: what it reads out of their tables, and what it tells of."""

from benchmarks.report import changed, figures_of

TABLES = """load 3.1

| receiver | instances/s (median) | ours / theirs |
|---|---|---|
| overread | 391 | 1 |
| Orthanc, its default | 233 | 1.76 |

| objects | sender | per s |
|---|---|---|
| CT slices of 0.5 MB | dcmsend | 489 |

| passes ran in | 7.8 % | none |
|---|---|---|
"""


def test_every_figure_of_every_table_is_read() -> None:
    """Rows are named by the words that lead them, figures by their column; a table without rows has none."""
    assert dict(figures_of(TABLES)) == {
        "overread": {"instances/s (median)": 391.0, "ours / theirs": 1.0},
        "Orthanc, its default": {"instances/s (median)": 233.0, "ours / theirs": 1.76},
        "CT slices of 0.5 MB, dcmsend": {"per s": 489.0},
    }


def test_what_changed_by_more_than_a_quarter_is_told() -> None:
    """Gains and losses are told, small changes, new rows and zeros are not."""
    before = {"receive": {"ours": {"rate": 400.0, "cpu": 2.0, "zero": 0.0}, "gone": {"rate": 1.0}}}
    now = {"receive": {"ours": {"rate": 200.0, "cpu": 2.4, "zero": 1.0}, "new": {"rate": 1.0}}, "send": {}}
    assert list(changed(before, now)) == ["- receive: ours, rate: 400 -> 200"]
