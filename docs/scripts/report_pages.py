"""Plants lesions into healthy scans, scores them, and writes screenshots of the report.

python docs/scripts/report_pages.py zoo/hippocampus msd_hippocampus runs/pages docs/images

Of 14 scans that the model has not seen, five get a lesion. Needs Chromium and its driver.
"""

import csv
import io
import json
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

import medgan
from medgan.app.pipeline import run_pipeline
from medgan.core.volume import Volume
from medgan.data.intensities import intensity_scale
from medgan.data.lesions import plant

FAMILIES = ("brighter", "darker", "foreign", "push", "noise")
SCANS, RADIUS, SEED = 14, 5.0, 0
SIZE = (1200, 1050)
RATE = 0.05
"""p-value at which the pages flag a scan."""


def main(model: str, source: str, folder: str, images: str) -> None:
    """Writes scans, scores, pages and screenshots."""
    out = Path(folder)
    table = plant_some(model, Path(source), out / "scans")
    settings = {
        "out": str(out), "model_uri": model, "data.source": str(table),
        "data.healthy": "{diagnosis: [healthy]}",
    }  # fmt: skip
    run_pipeline("score", [f"{name}={value}" for name, value in settings.items()])
    rows = json.loads((out / "scores.json").read_text())["scans"]
    faintest = [row["case"] for row in rows if row["comparable"] and row["p_value"] <= RATE][-1]
    pages = {"scores": "index.html", "scan": f"scans/{faintest}.html"}
    save_screenshots({name: out / "report" / page for name, page in pages.items()}, Path(images))


def plant_some(model: str, source: Path, folder: Path) -> Path:
    """Writes scans of the split `test`, some with a lesion, and the table that names them."""
    preparation = medgan.load(model).preprocessing
    splits = json.loads((source.parent / "splits.json").read_text())
    names = splits[source.name]["test"][:SCANS]
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(SEED)
    rows = []
    for number, name in enumerate(names):
        scan = Volume.load(source / "imagesTr" / f"{name}.nii.gz")
        row = {"image": f"{name}.nii.gz", "diagnosis": "healthy", "lesion_mask": ""}
        if number < len(FAMILIES):
            scale = intensity_scale(scan.data, preparation)
            healthy = scale(torch.from_numpy(scan.data)).numpy()
            planted = plant(healthy, healthy[::-1], FAMILIES[number], RADIUS, 1.0, rng)
            change = scale.back(planted.volume) - scale.back(healthy)
            scan = Volume((scan.data + change).astype(np.float32), scan.affine)
            row |= {"diagnosis": "lesion", "lesion_mask": f"{name}-lesion.nii.gz"}
            mask = Volume(planted.truth.astype(np.uint8), scan.affine)
            mask.save(folder / row["lesion_mask"])
        scan.save(folder / row["image"])
        rows.append(row)
    table = folder / "scans.csv"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return table


def save_screenshots(
    pages: dict[str, Path],
    images: Path,
    size: tuple[int, int] = SIZE,
    schemes: tuple[str, ...] = ("light", "dark"),
) -> None:
    """Writes the top of each page, `size` pixels, in colour schemes."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    for argument in ("--headless=new", "--no-sandbox", "--hide-scrollbars"):
        options.add_argument(argument)
    browser = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
    width, height = size
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    for name, page in pages.items():
        for scheme in schemes:
            feature = {"name": "prefers-color-scheme", "value": scheme}
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
            browser.get(page.resolve().as_uri())
            time.sleep(2)  # the planes are drawn after the page has loaded
            shot = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")
            # A page has few colours: a palette reduces its file to a third.
            few = shot.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE)
            few.save(images / f"report-{name}-{scheme}.png", optimize=True)
    browser.quit()


if __name__ == "__main__":
    main(*sys.argv[1:])
