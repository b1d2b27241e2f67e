"""What was measured, as Markdown tables."""

import os
import platform
from importlib.metadata import version
from statistics import median

from benchmarks.processes import Measured


def machine() -> str:
    """Say what this was measured on."""
    libraries = ", ".join(
        f"{name} {version(name)}" for name in ("scikit-learn", "numpy", "dagster")
    )
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, {libraries}."
    )


def models_table(
    tutorial: Measured,
    models: list[tuple[Measured, Measured]],
    scaled: Measured,
    accurate: Measured,
) -> str:
    """Accuracy, seconds, memory of each model, and its ratio to the tutorial's fit."""
    slow = tutorial.printed["fit"]
    quick = median([reference.printed["fit"] for reference, _ in models])
    ratio = median([fast.printed["features and fit"] / ref.printed["fit"] for ref, fast in models])
    fast = models[0][1]
    rows = [
        ("the tutorial's own fit (raw pixels, one core)", tutorial, slow, None),
        ("the same on pixels / 255, float32, `n_jobs=2`", models[0][0], quick, None),
        ("preset `scaled`", scaled, scaled.printed["features and fit"], None),
        ("preset `fast`", fast, median([m.printed["features and fit"] for _, m in models]), ratio),
        ("preset `accurate`", accurate, accurate.printed["features and fit"], None),
    ]
    lines = [
        "| | test accuracy | test errors | features and fit, s | of the tutorial's fit "
        "| of the float32 fit | features of 14,000, s | predict 14,000, s "
        "| calibration error (ECE) | peak MB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, found, seconds, paired in rows:
        accuracy = found.printed["accuracy"]
        predict, ece = found.printed.get("predict"), found.printed.get("ece")
        features = found.printed.get("features")
        lines.append(
            f"| {name} | {accuracy:.2%} | {round((1 - accuracy) * 14_000):,} | {seconds:.1f} "
            f"| {seconds / slow:.3f} | {paired or seconds / quick:.2f} "
            f"| {'' if features is None else f'{features:.1f}'} "
            f"| {'' if predict is None else f'{predict:.1f}'} "
            f"| {'' if ece is None else f'{ece:.4f}'} | {found.megabytes:.0f} |"
        )
    return "\n".join(lines)


def data_table(data: list[tuple[Measured, Measured, Measured]]) -> str:
    """Seconds and memory of getting at the digits, beside `fetch_openml`."""
    names = [
        "`fetch_openml`, its cache warm (pandas 2.3)",
        "decode and split, both files written",
        "both splits read",
    ]
    lines = ["| whole process | s | ratio | peak MB | ratio |", "|---|---|---|---|---|"]
    for index, name in enumerate(names):
        seconds = median([row[index].seconds for row in data])
        ratio = median([row[index].seconds / row[0].seconds for row in data])
        peak = median([row[index].megabytes for row in data])
        memory = median([row[index].megabytes / row[0].megabytes for row in data])
        lines.append(f"| {name} | {seconds:.1f} | {ratio:.2f} | {peak:.0f} | {memory:.2f} |")
    return "\n".join(lines)


def pipeline_table(
    runs: list[tuple[Measured, Measured]],
    changed: list[tuple[Measured, Measured]],
    no_op: list[Measured],
) -> str:
    """Seconds and memory of the command line: a cold run beside the float32 fit, and so on."""
    cold = median([run.seconds for run, _ in runs])
    ratio = median([run.seconds / reference.printed["fit"] for run, reference in runs])
    fitted = "features and fit"
    loop = median([run.seconds for run, _ in changed])
    of_fit = median([run.seconds / preset.printed[fitted] for run, preset in changed])
    again = median([run.seconds for run in no_op])
    return "\n".join(
        [
            "| whole process, all 70,000, preset `fast` | s | beside | peak MB |",
            "|---|---|---|---|",
            f"| `run`, from the download to champion and report | {cold:.1f} "
            f"| {ratio:.2f} x the float32 fit | {max(run.megabytes for run, _ in runs):.0f} |",
            f"| `refresh` with another `alpha`, to the report | {loop:.1f} "
            f"| {of_fit:.2f} x features and fit of the model "
            f"| {max(run.megabytes for run, _ in changed):.0f} |",
            f"| `refresh` with nothing changed | {again:.2f} "
            f"| | {max(run.megabytes for run in no_op):.0f} |",
        ]
    )
