"""The report of real runs, opened in headless Chromium as a reader would, and with names full of markup."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_grid import EPOCHS

from cct_lightning.commands.report import report
from cct_lightning.comparison.evidence import confusion, curves, predictions, samples
from cct_lightning.comparison.runs import read_runs
from cct_lightning.errors import InputError
from cct_lightning.runs.folder import RunFolder

pytestmark = pytest.mark.slow

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
def large(synthetic: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of 150 runs and 50 variants."""
    path = tmp_path_factory.mktemp("large") / "page.html"
    report([str(synthetic)], out=str(path))
    return path


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


def opened(browser: Any, page: Path, *, width: int = 1400, parts: bool = True, media: str = "light") -> None:
    """Open a page, with all its parts where `parts` is true."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = [{"name": "prefers-color-scheme", "value": media}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(page.as_uri())
    if parts:
        browser.execute_script("for (const part of document.querySelectorAll('details')) part.open = true; refresh();")


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
    assert {url for url in addresses(browser) if not url.startswith("data:")} == {page.as_uri()}
    text = browser.find_element("tag name", "body").text
    for part in ("9 runs in 5 variants", "baseline", "Failed: failed (No memory).", "val/acc", "0 of 1", "Parallel"):
        assert part in text
    assert len(browser.find_elements("css selector", ".samples img")) == 12 * 2
    assert len(browser.find_elements("css selector", ".samples canvas")) == 12
    # Curves: two accuracies, two losses, learning rate; two main effects, interaction, parallel coordinates; costs.
    assert len(browser.find_elements("css selector", "figure svg")) == 5 + 4 + 3
    assert text.count("cct fit --config ") == 8


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


def test_a_large_page_is_small(browser: Any, large: Path) -> None:
    assert large.stat().st_size < 2e6
    opened(browser, large, parts=False)
    assert browser.get_log("browser") == []
    # What is closed is not drawn: 50 variants are three screens.
    assert len(browser.find_elements("css selector", "figure svg")) == 4
    assert browser.execute_script("return document.documentElement.scrollHeight") < 3000


def choose(browser: Any, name: str, value: str) -> None:
    """Choose in a list of the filter, as a reader does."""
    browser.execute_script(
        "const list = document.querySelector(`#filter select[name='${arguments[0]}']`); list.value = arguments[1];"
        "list.dispatchEvent(new Event('input', {bubbles: true}))",
        name,
        value,
    )


def variants_drawn(browser: Any) -> set[str]:
    titles = browser.find_elements("css selector", "[data-draw=curves] figure:first-child g.series > title")
    return {title.get_attribute("textContent") for title in titles}


def test_variants_are_searched_and_filtered(browser: Any, large: Path) -> None:
    opened(browser, large, parts=False)
    assert len(variants_drawn(browser)) == 10

    def shown() -> int:
        rows = browser.find_elements("css selector", "table.sortable tr[data-variant]:not([hidden])")
        return len({row.get_attribute("data-variant") for row in rows})

    search = browser.find_element("css selector", "input[type=search]")
    search.send_keys("tokenizer=patch pool=mean")
    assert shown() == 5
    assert len(variants_drawn(browser)) == 5
    assert all("tokenizer=patch" in title and "pool=mean" in title for title in variants_drawn(browser))
    search.clear()
    search.send_keys("#2 #7")
    assert {title.split()[0] for title in variants_drawn(browser)} == {"#2", "#7"}
    search.clear()
    search.send_keys(" ")
    choose(browser, "1", "conv")
    choose(browser, "most", "0")
    assert shown() == len(variants_drawn(browser)) == 25


def test_variants_are_told_apart_without_color(browser: Any, large: Path) -> None:
    opened(browser, large, parts=False)
    choose(browser, "most", "0")
    looks = browser.execute_script(
        "return [...document.querySelectorAll('[data-draw=curves] figure:first-child g.series')].map(group => ["
        "group.getAttribute('stroke'), group.querySelector('.curve').getAttribute('stroke-dasharray'),"
        "group.querySelector('text').textContent])"
    )
    assert len({tag for *_, tag in looks}) == 50
    assert len({(color, dash) for color, dash, _ in looks}) == 35, "seven colors with five dashes each"


WIDTHS = (
    "return [...document.querySelectorAll('figure svg')].map(svg => {const box = svg.getBoundingClientRect();"
    "return [box.left, box.right, svg.viewBox.baseVal.width / box.width]})"
)


@pytest.mark.parametrize("media", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 400])
def test_figures_are_whole_and_legible(browser: Any, large: Path, width: int, media: str) -> None:
    opened(browser, large, width=width, media=media)
    assert browser.get_log("browser") == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    figures = browser.execute_script(WIDTHS)
    assert len(figures) == 4 + 5 + 3
    for left, right, shrunk in figures:
        assert left >= 0
        assert right <= width
        assert shrunk == pytest.approx(1, abs=0.02), "drawn for the room there is, so that its text is of full size"
    text, back = (
        sum(map(int, re.findall(r"\d+", browser.find_element("tag name", "body").value_of_css_property(name))[:3]))
        for name in ("color", "background-color")
    )
    assert (text > back) == (media == "dark")


def test_it_prints_everything_that_it_draws(browser: Any, large: Path) -> None:
    opened(browser, large, parts=False)
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert len(browser.find_elements("css selector", "figure svg")) == 4 + 5 + 3
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert not browser.find_element("id", "filter").is_displayed()
    table = browser.find_element("css selector", ".tall")
    assert table.value_of_css_property("overflow-y") == "visible"
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_confusion_and_samples_are_those_of_the_chosen_variant(browser: Any, page: Path, undisturbed: Path) -> None:
    opened(browser, page)
    choice = "document.querySelector('select[name=variant]')"
    for number in (0, 2):
        browser.execute_script(f"{choice}.value = {number}; {choice}.dispatchEvent(new Event('change'))")
        name = browser.execute_script(f"return {choice}.selectedOptions[0].textContent").partition(" ")[2]
        arch, pool = (part.partition("=")[2] for part in name.split(", "))
        runs = [r for r in read_runs([str(undisturbed)]) if r.config.arch == arch and r.compared["model.pool"] == pool]
        assert len(runs) == 2
        counted = confusion([part for run in runs if (part := predictions(run)) is not None])
        assert counted is not None
        percent = 100 * counted[1] / counted[1].sum(1, keepdims=True)
        cells = [cell.text for cell in browser.find_elements("css selector", ".matrix tbody td")]
        expected = ["" if p == 0 else "<1" if p < 0.5 else f"{np.floor(p + 0.5):.0f}" for p in percent.ravel()]
        assert cells == expected


def test_a_page_needs_no_torch_and_no_matplotlib(synthetic: Path, tmp_path: Path) -> None:
    """They would take longer to import than the page to write."""
    code = (
        "import sys; from cct_lightning.commands.report import report; report([sys.argv[1]], out=sys.argv[2]);"
        "print([m for m in ('torch', 'matplotlib', 'scipy.stats', 'pytorch_lightning') if m in sys.modules])"
    )
    words = [sys.executable, "-c", code, str(synthetic), str(tmp_path / "page.html")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stdout + done.stderr


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
    assert browser.execute_script("return document.querySelectorAll('img[src=x], svg b').length") == 0
    heads = browser.execute_script("return [...document.querySelectorAll('.matrix tbody th')].map(t => t.textContent)")
    assert f"3{EVIL[:18]}…" in heads
    assert EVIL in browser.find_element("tag name", "body").text


def test_curves_and_classes_are_those_of_the_runs(undisturbed: Path) -> None:
    runs = read_runs([str(undisturbed)])
    assert len(runs) == 8
    table = curves(runs, "val/acc")
    assert table["epoch"].tolist() == list(range(1, EPOCHS + 1))
    for run in runs:
        part = predictions(run)
        assert part is not None
        counted = confusion([part])
        assert counted is not None
        classes, counts = counted
        assert classes == [str(k) for k in range(10)]
        assert counts.sum() == 359
        assert np.diag(counts).sum() / counts.sum() == pytest.approx(run.summary["test/acc"])
        assert len(samples([part])) == 12
    assert curves(runs, "lr")["mean"].iloc[-1] < curves(runs, "lr")["mean"].iloc[0]


def test_damaged_evidence_is_left_out(undisturbed: Path, tmp_path: Path) -> None:
    runs = shutil.copytree(undisturbed, tmp_path / "runs", ignore=shutil.ignore_patterns("*.ckpt"))
    first, second, third = sorted(runs.glob("*-seed?"))[:3]
    (first / RunFolder.PREDICTIONS).write_bytes(b"PK damaged")
    (second / "metrics.csv").write_text("epoch,step\n")
    (third / "metrics.csv").unlink()
    (third / RunFolder.PREDICTIONS).unlink()
    report([str(runs)], out=str(tmp_path / "page.html"))
    assert (tmp_path / "page.html").read_text().count('"curves":{}') == 0


def test_bad_input(undisturbed: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Cannot write"):
        report([str(undisturbed)], out=str(tmp_path))
    with pytest.raises(InputError, match="Cannot write"):
        report([str(undisturbed)], out=str(tmp_path / "no" / "page.html"))
    with pytest.raises(InputError, match="no run"):
        report([str(tmp_path)], out=str(tmp_path / "page.html"))
    assert list(tmp_path.iterdir()) == []
