"""The pages in a real browser, from the disk: skipped, saying so, where there is no Chromium."""

import json
import shutil
import time

import numpy as np
import pytest

from medgan.core.config import WINDOWS
from medgan.reporting.training import MOST_GRIDS, write_training_page
from tests.kit.pages import EVIL, SHAPE, maps, page

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
PATIENCE = 20.0
"""Seconds; a busy machine draws a canvas late."""
LEFT, RIGHT, DOWN, TAB, ENTER, HOME = "\ue012", "\ue014", "\ue015", "\ue004", "\ue007", "\ue011"

CONTRAST = """
const light = (colour) => colour.map((v) => v / 255)
  .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
const parse = (text) => text.match(/[\\d.]+/g).map(Number);
const behind = (node) => {
  for (; node; node = node.parentElement) {
    const [r, g, b, a = 1] = parse(getComputedStyle(node).backgroundColor);
    if (a > 0) return [r, g, b];
  }
};
const faint = [];
for (const node of document.querySelectorAll("body *")) {
  const own = [...node.childNodes].some((c) => c.nodeType === 3 && c.textContent.trim());
  if (!own || !node.offsetParent || node.closest("svg, script, style")) continue;
  const [a, b] = [parse(getComputedStyle(node).color).slice(0, 3), behind(node)].map(light);
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) faint.push([node.outerHTML.slice(0, 80), ratio]);
}
return faint;
"""


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM or not DRIVER:
        pytest.skip("no chromium and chromedriver: apt-get install chromium chromium-driver")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        *("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-extensions"),
        *("--window-size=1200,900", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    driver.set_script_timeout(PATIENCE)
    yield driver
    driver.quit()


@pytest.fixture
def quiet(browser):
    """Whatever a test does: no request that leaves the machine, nothing on the console."""
    browser.get_log("performance")
    browser.get_log("browser")
    yield browser
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]
    assert asked
    assert all(url.startswith(("file:///", "data:", "blob:")) for url in asked), asked
    assert browser.get_log("browser") == []


def until(question):
    """What the question says once it says something."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if answer := question():
            return answer
        time.sleep(0.05)
    raise AssertionError("waited in vain")


def by(browser, selector):
    return browser.find_elements("css selector", selector)


def shown(browser):
    """The scans in the table, from top to bottom."""
    return browser.execute_script(
        "return [...document.querySelectorAll('#scans tbody tr')].filter((row) => !row.hidden)"
        ".map((row) => [row.cells[0].dataset.value, Number(row.cells[3].dataset.value)])"
    )


def set_to(browser, name, value):
    browser.execute_script(
        "const field = document.getElementById(arguments[0]); field.value = arguments[1];"
        "field.dispatchEvent(new Event('input')); field.dispatchEvent(new Event('change'))",
        name, value,
    )  # fmt: skip


def pixels(browser, plane="axial"):
    """How many pixels of a plane are coloured, and which grey they sum up to."""
    return browser.execute_async_script(
        """const [name, done] = arguments;
        requestAnimationFrame(() => requestAnimationFrame(() => {
          const canvas = document.getElementById(name);
          const copy = new OffscreenCanvas(canvas.width, canvas.height);
          const context = copy.getContext("2d", {willReadFrequently: true});
          context.drawImage(canvas, 0, 0);
          const {data} = context.getImageData(0, 0, canvas.width, canvas.height);
          let coloured = 0, sum = 0;
          for (let n = 0; n < data.length; n += 4) {
            sum += data[n] + data[n + 1] + data[n + 2];
            coloured += Math.max(data[n], data[n + 1], data[n + 2]) -
              Math.min(data[n], data[n + 1], data[n + 2]) > 24;
          }
          done([coloured, sum]);
        }));""",
        plane,
    )


@pytest.fixture
def scan(quiet, scored):
    """The page of the scan with regions, opened."""
    row = next(row for row in scored.rows if not row["healthy"])
    assert row["comparable"]
    quiet.get((scored.page.parent / "scans" / f"{row['case']}.html").as_uri())
    until(lambda: by(quiet, "body[data-ready]"))
    return quiet


def test_the_table_sorts_filters_and_leads_to_the_scans(quiet, scored):
    quiet.get(scored.page.as_uri())
    rows = shown(quiet)
    assert len(rows) == sum(row["comparable"] for row in scored.rows)
    assert EVIL in [name for name, _ in rows]
    heading = by(quiet, "#scans thead button")[2]
    heading.click()
    scores = [score for _, score in shown(quiet)]
    assert scores == sorted(scores)
    assert by(quiet, "th[aria-sort=ascending]")[0].text.startswith("score")
    heading.click()
    assert [score for _, score in shown(quiet)] == scores[::-1]
    set_to(quiet, "state", "flagged")
    flagged = shown(quiet)
    assert 0 < len(flagged) < len(rows)
    assert by(quiet, "#count")[0].text == f"{len(flagged)} of {len(rows)} scans"
    by(quiet, "button[type=reset]")[0].click()
    until(lambda: len(shown(quiet)) == len(rows))
    set_to(quiet, "search", EVIL[:4])
    by(quiet, "#search")[0].clear()
    set_to(quiet, "search", "onerror")
    assert [name for name, _ in shown(quiet)] == [EVIL]
    by(quiet, "#scans tbody tr:not([hidden]) a")[0].click()
    until(lambda: by(quiet, "body[data-ready]"))
    assert by(quiet, "h1")[0].text == EVIL


def test_the_planes_show_the_heat_as_far_as_the_slider_lets_them(scan):
    for box in ("outlines", "cross", "lesion"):
        scan.execute_script("document.getElementById(arguments[0]).click()", box)
    hot, _ = pixels(scan)
    assert hot > 100
    set_to(scan, "opacity", 0)
    plain, grey = pixels(scan)
    assert plain < 10
    set_to(scan, "width", 400)
    assert pixels(scan)[1] != grey
    for name in ("recon", "difference"):
        scan.execute_script("document.getElementById(arguments[0]).click()", f"show-{name}")
        assert pixels(scan)[1] != grey
    assert by(scan, "#difference-key")[0].is_displayed()


def test_a_region_a_key_and_a_click_lead_all_planes_to_a_place(scan):
    def place():
        return by(scan, "#position")[0].text

    start = until(place)
    assert "in region 1" in start
    canvas = by(scan, "#axial")[0]
    canvas.send_keys("\ue00e")  # page up
    up = until(lambda: place() if place() != start else "")
    assert by(scan, "#axial-caption")[0].text.removeprefix("axial, ") in up
    canvas.click()  # its middle
    middle = until(lambda: place() if place() != up else "")
    sliders = [int(by(scan, f"#{name}-slice")[0].get_attribute("value")) for name in
               ("sagittal", "coronal")]  # fmt: skip
    assert all(abs(value - 8) <= 1 for value in sliders)
    assert "in region 1" not in middle
    by(scan, "button[data-region='1']")[0].click()
    assert until(lambda: place() if "in region 1" in place() else "") == start
    assert by(scan, "button[data-region='1']")[0].get_attribute("aria-pressed") == "true"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_is_behind_it_in_light_and_dark(scheme, scan, scored):
    """WCAG AA: 4.5 to 1."""
    feature = {"name": "prefers-color-scheme", "value": scheme}
    scan.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    for address in (scan.current_url, scored.page.as_uri()):
        scan.get(address)
        faint = scan.execute_script(CONTRAST)
        assert faint == []
    dark = scan.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (int(dark[4:].split(",")[0]) < 60) == (scheme == "dark")


def test_the_scan_opens_in_space_or_says_why_not(scan):
    button = by(scan, "#open-space")[0]
    scan.execute_script("arguments[0].click()", button)
    said = until(
        lambda: (text := by(scan, "#space-status")[0].text) and "Loading" not in text and text
    )
    if "no WebGL 2" in said:
        pytest.skip("this Chromium draws no WebGL 2")
    assert said.startswith("Drag")
    assert len(scan.execute_script("return medganSpace.volumes.map((v) => v.name)")) == 2
    affine = scan.execute_script("return medganSpace.volumes[0].matRAS")
    assert [round(value) for value in affine[:12:5]] == [2, 2, 2]


def value(browser, name):
    return by(browser, f"#{name}")[0].get_attribute("value")


def test_the_table_is_searched_sorted_and_reset_by_keys_alone(quiet, scored):
    quiet.get(scored.page.as_uri())

    def tab_to(selector):
        """Presses TAB until that has the focus, as who uses no mouse does."""
        for _ in range(12):
            if quiet.switch_to.active_element in by(quiet, selector):
                return quiet.switch_to.active_element
            quiet.switch_to.active_element.send_keys(TAB)
        raise AssertionError(f"no way to {selector}")

    everything = shown(quiet)
    tab_to("#search").send_keys("onerror")
    assert [name for name, _ in shown(quiet)] == [EVIL]
    tab_to("button[type=reset]").send_keys(ENTER)
    until(lambda: len(shown(quiet)) == len(everything))
    tab_to("th:nth-of-type(4) button").send_keys(ENTER)
    assert shown(quiet) == sorted(everything, key=lambda row: row[1])
    rim = "return getComputedStyle(document.activeElement).outlineWidth"
    assert quiet.execute_script(rim) == "3px"
    quiet.get(scored.page.as_uri())
    tab_to("#state").send_keys("not f")
    states = [row["p_value"] > 0.05 for row in scored.rows if row["comparable"]]
    assert 0 < len(shown(quiet)) == sum(states) < len(states)


def test_windows_of_a_ct_are_chosen_by_keys_and_named_as_long_as_they_hold(quiet, tmp_path):
    lung = list(WINDOWS["lung"])
    file = tmp_path / "ct.html"
    data = np.linspace(-1000, 1000, np.prod(SHAPE)).reshape(SHAPE).round()
    file.write_text(page(shown=maps(data), windows=[lung]))
    quiet.get(file.as_uri())
    until(lambda: by(quiet, "body[data-ready]"))
    preset = by(quiet, "#preset")[0]
    named = "return document.getElementById('preset').selectedOptions[0].text"
    assert quiet.execute_script(named) == "lung \N{MINUS SIGN}600/1500 HU"
    assert (value(quiet, "centre"), value(quiet, "width")) == ("-600", "1500")
    assert until(lambda: by(quiet, "#position")[0].text).count(" HU") == 2
    preset.send_keys(HOME)
    assert quiet.execute_script(named) == "whole range"
    sums = {pixels(quiet)[1]}
    for low, high in WINDOWS.values():
        preset.send_keys(DOWN)
        assert float(value(quiet, "centre")) == (low + high) / 2
        assert float(value(quiet, "width")) == high - low
        sums.add(pixels(quiet)[1])
    assert len(sums) == 1 + len(WINDOWS)
    by(quiet, "#width")[0].send_keys("0")
    assert quiet.execute_script(named) == "own"


def test_the_slider_of_a_training_goes_through_its_samples(quiet, training):
    write_training_page(training)
    quiet.get((training / "report" / "training.html").as_uri())

    def image():
        (shown_one,) = [one for one in by(quiet, "#samples img") if one.is_displayed()]
        assert quiet.execute_script("return arguments[0].naturalWidth", shown_one) > 0
        said, words = by(quiet, "#evaluation-text")[0].text, shown_one.get_attribute("alt")
        assert f"after {said} volumes" in words
        return int(said), shown_one.get_attribute("src")

    slider = by(quiet, "#evaluation")[0]
    seen = [image()]
    for _ in range(MOST_GRIDS - 1):
        slider.send_keys(LEFT)
        seen.append(image())
    assert len({source for _, source in seen}) == MOST_GRIDS
    assert [volumes for volumes, _ in seen] == sorted((v for v, _ in seen), reverse=True)
    assert (seen[0][0], seen[-1][0]) == (150, 10)
    slider.send_keys(RIGHT)
    assert image() == seen[-2]
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        quiet.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        assert quiet.execute_script(CONTRAST) == []
