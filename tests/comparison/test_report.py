"""The report of real runs, opened in headless Chromium as a reader would, and with names full of markup."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_grid import EPOCHS

from cct_lightning.commands.report import report
from cct_lightning.comparison.evidence import class_accuracy, confusion, curves
from cct_lightning.comparison.runs import read_runs
from cct_lightning.errors import InputError
from cct_lightning.runs.folder import RunFolder

pytest.importorskip("plotly", reason="Plotly is not installed: pip install 'cct_lightning[report]'")

EVIL = "</script><script>document.title='pwned'</script><img src=x onerror=\"document.title='pwned'\">&amp;<b>"


@pytest.fixture(scope="module")
def page(undisturbed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of the eight runs, with a failed one beside them."""
    folder = tmp_path_factory.mktemp("report")
    runs = shutil.copytree(undisturbed, folder / "runs", ignore=shutil.ignore_patterns("*.ckpt"))
    failed = runs / "failed"
    failed.mkdir()
    record = {"parameters": {"model.arch": "cct_2_3x1", "model.pool": "max"}, "reason": "No memory", "index": 8}
    (failed / "ablation.json").write_text(json.dumps(record))
    report([str(runs)], out=str(folder / "page.html"), title="Eight runs")
    return folder / "page.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Headless Chromium with an empty profile."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="Selenium is not installed: pip install selenium")
    chromium, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("Chromium is not installed (Debian: apt install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
        "--disable-background-networking", "--disable-component-update", "--window-size=1280,900",
        f"--user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):  # fmt: skip
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driven = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield driven
    driven.quit()


def opened(browser: Any, page: Path) -> None:
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(page.as_uri())
    browser.set_script_timeout(30)
    browser.execute_async_script(
        "const done = arguments[0]; const wait = () => document.querySelectorAll('.js-plotly-plot .main-svg').length"
        " ? done() : setTimeout(wait, 100); wait();"
    )


def addresses(browser: Any) -> set[str]:
    """What the page asked for since it was opened."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return {e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"}


def column(browser: Any, heading: str) -> list[str]:
    """The texts of a column of the first table."""
    return browser.execute_script(
        "const table = document.querySelector('table.sortable');"
        "const i = [...table.querySelectorAll('th')].findIndex(th => th.textContent.trim() === arguments[0]);"
        "return [...table.tBodies[0].rows].map(row => row.cells[i].textContent.trim());",
        heading,
    )


def test_it_opens_without_errors_or_network(browser: Any, page: Path) -> None:
    opened(browser, page)
    assert browser.title == "Eight runs"
    assert browser.get_log("browser") == []
    assert {url for url in addresses(browser) if not url.startswith(("data:", "blob:"))} == {page.as_uri()}
    text = browser.find_element("tag name", "body").text
    for part in ("9 runs in 5 variants", "baseline", "failed: failed (No memory).", "val/acc", "0 of 1"):
        assert part in text
    assert len(browser.find_elements("css selector", ".samples img")) == 4 * 12 * 2
    assert len(browser.find_elements("css selector", ".js-plotly-plot")) == 3 + 3 + 4


def test_the_table_sorts(browser: Any, page: Path) -> None:
    opened(browser, page)
    heading = next(b for b in browser.find_elements("css selector", "th button") if b.text == "params")
    heading.click()
    rising = column(browser, "params")
    numbers = [int(text.replace(",", "")) for text in rising[:-1]]
    assert numbers == sorted(numbers)
    assert rising[-1] == "-", "a variant without a result stays last"
    heading.click()
    assert column(browser, "params") == [*rising[-2::-1], "-"]
    assert heading.find_element("xpath", "..").get_attribute("aria-sort") == "descending"
    heading = next(b for b in browser.find_elements("css selector", "th button") if b.text == "pool")
    heading.click()
    assert column(browser, "pool") == sorted(column(browser, "pool"))


def test_a_click_in_the_legend_hides_a_variant(browser: Any, page: Path) -> None:
    opened(browser, page)
    figure = "document.querySelector('.js-plotly-plot')"
    before = browser.execute_script(f"return {figure}._fullData.map(trace => trace.visible)")
    assert set(before) == {True}
    toggle = browser.find_element("css selector", ".js-plotly-plot .legendtoggle")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", toggle)
    from selenium.webdriver import ActionChains

    ActionChains(browser).move_to_element(toggle).click().perform()
    browser.execute_async_script(
        f"const done = arguments[0]; const wait = () => {figure}._fullData.some(t => t.visible === 'legendonly')"
        " ? done() : setTimeout(wait, 100); wait();"
    )
    after = browser.execute_script(f"return {figure}._fullData.map(trace => trace.visible)")
    # The curve and its band belong together.
    assert after.count("legendonly") == 2


def test_it_fits_a_phone(browser: Any, page: Path) -> None:
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        opened(browser, page)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
        widths = browser.execute_script(
            "return [...document.querySelectorAll('details[open] .main-svg, h3 ~ div .main-svg')]"
            ".map(svg => svg.getBoundingClientRect().width)"
        )
        assert widths
        assert max(widths) <= 390
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_markup_in_names_stays_text(browser: Any, undisturbed: Path, tmp_path: Path) -> None:
    first, second = sorted(undisturbed.glob("*seed0"))[:2]
    evil_path = EVIL.replace("/", "\u2215")
    for source, name in ((first, evil_path), (second, "plain")):
        shutil.copytree(source, tmp_path / "runs" / name, ignore=shutil.ignore_patterns("*.ckpt"))
        with np.load(source / RunFolder.PREDICTIONS) as file:
            arrays = dict(file)
        arrays["classes"] = np.array([f"{k}{EVIL}" for k in range(10)])
        np.savez_compressed(tmp_path / "runs" / name / RunFolder.PREDICTIONS, **arrays)
    folder = tmp_path / "runs" / evil_path
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(re.sub(r"arch: \w+", f"arch: {json.dumps(EVIL)}", config))
    page = tmp_path / "page.html"
    report([str(tmp_path / "runs")], out=str(page), title=f"Title {EVIL}")
    opened(browser, page)
    assert browser.title == f"Title {EVIL}"
    assert browser.get_log("browser") == []
    assert f"3{EVIL}" in browser.find_element("tag name", "body").text
    assert browser.execute_script("return document.querySelectorAll('img[src=x], svg b').length") == 0
    ticks = browser.execute_script("return [...document.querySelectorAll('.ytick text')].map(t => t.textContent)")
    assert f"3{EVIL[:18]}…" in ticks


def test_curves_and_classes_are_those_of_the_runs(undisturbed: Path) -> None:
    runs = read_runs([str(undisturbed)])
    assert len(runs) == 8
    table = curves(runs, "val/acc")
    assert table["epoch"].tolist() == list(range(1, EPOCHS + 1))
    for run in runs:
        counted = confusion([run])
        assert counted is not None
        classes, counts = counted
        assert classes == [str(k) for k in range(10)]
        assert counts.sum() == 359
        assert np.diag(counts).sum() / counts.sum() == pytest.approx(run.summary["test/acc"])
    names, (together,) = class_accuracy([runs])
    assert len(names) == len(together) == 10


def test_damaged_evidence_is_left_out(undisturbed: Path, tmp_path: Path) -> None:
    runs = shutil.copytree(undisturbed, tmp_path / "runs", ignore=shutil.ignore_patterns("*.ckpt"))
    first, second, third = sorted(runs.glob("*-seed?"))[:3]
    (first / RunFolder.PREDICTIONS).write_bytes(b"PK damaged")
    (second / "metrics.csv").write_text("epoch,step\n")
    (third / "metrics.csv").unlink()
    (third / RunFolder.PREDICTIONS).unlink()
    report([str(runs)], out=str(tmp_path / "page.html"))
    assert (tmp_path / "page.html").stat().st_size > 1e6


def test_bad_input(undisturbed: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Cannot write"):
        report([str(undisturbed)], out=str(tmp_path))
    with pytest.raises(InputError, match="Cannot write"):
        report([str(undisturbed)], out=str(tmp_path / "no" / "page.html"))
    with pytest.raises(InputError, match="no run"):
        report([str(tmp_path)], out=str(tmp_path / "page.html"))
    assert list(tmp_path.iterdir()) == []
