"""The HTML page in headless Chromium: layout, colours, structure, keyboard, and names that try to break out."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from browser import CHROMIUM, Browser

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not here: apt-get install chromium")

TRACES = Path(__file__).resolve().parents[1] / "data" / "traces"
EAGER = TRACES / "geglu_768_3072_eager_shapes.json.gz"
COMPILED = TRACES / "geglu_768_3072_compile_shapes.json.gz"
TRAINING = TRACES / "gelu_1024_4096_train_amp.json.gz"
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&--></title></style></svg>"
PAGES = ("analysis", "training", "comparison", "hostile")

# Text whose contrast with its ground is below 4.5 (3 where it is large); text in pictures is left out.
CONTRAST = """(() => {
  const channels = text => text.match(/[0-9.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(
    v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce((s, v, i) => s + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = element => {
    for (let e = element; e; e = e.parentElement) {
      const color = channels(getComputedStyle(e).backgroundColor);
      if (color.length < 4 || color[3] > 0.9) return color;
    }
    return [255, 255, 255];
  };
  const low = [];
  for (const element of document.body.querySelectorAll('*')) {
    if (element.closest('svg') || ![...element.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
    if (element.closest('details:not([open])') && element.tagName !== 'SUMMARY') continue;
    const style = getComputedStyle(element);
    const [a, b] = [light(channels(style.color)), light(ground(element))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05), size = parseFloat(style.fontSize);
    if (ratio < (size >= 24 ? 3 : 4.5)) low.push([element.tagName, element.textContent.slice(0, 40), ratio.toFixed(2)]);
  }
  return low;
})()"""

STRUCTURE = """(() => {
  const all = selector => [...document.querySelectorAll(selector)];
  const ids = all('[id]').map(e => e.id);
  const levels = all('h1,h2,h3,h4').map(e => Number(e.tagName[1]));
  return {
    language: document.documentElement.lang,
    landmarks: ['header', 'nav', 'main', 'footer'].map(name => all(name).length),
    h1: all('h1').length,
    skipped_levels: levels.filter((level, i) => i > 0 && level > levels[i - 1] + 1).length,
    repeated_ids: ids.filter((id, i) => ids.indexOf(id) !== i),
    dead_links: all('a[href]').filter(a => !a.getAttribute('href').startsWith('#') ||
                                           !document.getElementById(a.getAttribute('href').slice(1))).length,
    tables_without_caption: all('table').filter(t => !t.caption).length,
    headers_without_scope: all('th').filter(t => !t.scope).length,
    pictures_without_name: all('svg[role=img]').filter(s => !s.querySelector('title')?.textContent).length,
    nameless_bars: all('[role=img]:not(svg)').filter(e => !e.getAttribute('aria-label')).length,
    unlabelled_sections: all('section').filter(s => !document.getElementById(s.getAttribute('aria-labelledby'))).length,
    scripts: document.scripts.length,
    images: document.images.length,
    handlers: all('*').filter(e => [...e.attributes].some(a => a.name.startsWith('on'))).length,
    pictures: all('svg[role=img]').length,
  };
})()"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    trace = json.loads(gzip.decompress(EAGER.read_bytes()))
    for device in trace["deviceProperties"]:
        device["name"] += HOSTILE
    for event in trace["traceEvents"]:
        if event.get("cat") == "kernel":
            event["name"] += HOSTILE
    hostile = folder / "<b>\"'&.json"
    hostile.write_text(json.dumps(trace))
    commands = {
        "analysis": ["analyze", EAGER],
        "training": ["analyze", TRAINING],
        "comparison": ["compare", EAGER, COMPILED],
        "hostile": ["compare", hostile, EAGER],
    }
    out = {}
    for name, command in commands.items():
        out[name] = folder / f"{name}.html"
        subprocess.run(
            [os.environ["FUSEDMLP_CLI"], *map(str, command), "--html", str(out[name])],
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=60,
        )
    return out


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as running:
        yield running


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1200])
@pytest.mark.parametrize("name", PAGES)
def test_readable(browser: Browser, pages: dict[str, Path], name: str, width: int, scheme: str) -> None:
    browser.open(pages[name], width, scheme=scheme)
    sticks_out = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.evaluate(sticks_out) == 0, "to the side"
    assert browser.evaluate(CONTRAST) == []
    sizes = "[...document.querySelectorAll('body *')].map(e => parseFloat(getComputedStyle(e).fontSize))"
    assert browser.evaluate(f"Math.min(...{sizes})") >= 11
    dark = browser.evaluate(
        "getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).every(v => v < 60)"
    )
    assert dark == (scheme == "dark")
    assert browser.screenshot().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", PAGES)
def test_structure(browser: Browser, pages: dict[str, Path], name: str) -> None:
    browser.open(pages[name])
    found = browser.evaluate(STRUCTURE)
    assert found.pop("pictures") >= 2
    assert found == {
        "language": "en",
        "landmarks": [1, 1, 1, 1],
        "h1": 1,
        "skipped_levels": 0,
        "repeated_ids": [],
        "dead_links": 0,
        "tables_without_caption": 0,
        "headers_without_scope": 0,
        "pictures_without_name": 0,
        "nameless_bars": 0,
        "unlabelled_sections": 0,
        "scripts": 0,
        "images": 0,
        "handlers": 0,
    }


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_loaded_and_nothing_runs(browser: Browser, pages: dict[str, Path], name: str) -> None:
    browser.open(pages[name])
    requests = [event["request"]["url"] for event in browser.seen("Network.requestWillBeSent")]
    assert requests == [pages[name].as_uri()]
    assert browser.seen("Page.javascriptDialogOpening") == []
    assert browser.seen("Log.entryAdded") == [], "no complaint of the browser either"


def test_hostile_names_are_shown_as_text(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["hostile"])
    text = browser.evaluate("document.body.textContent")
    assert HOSTILE in text
    assert "<b>\"'&" in browser.evaluate("document.title")


def test_keyboard(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["analysis"])
    browser.press("Tab")
    where = "(e => [e.className, e.getBoundingClientRect().left >= 0, parseFloat(getComputedStyle(e).outlineWidth) >= 2])"
    assert browser.evaluate(f"{where}(document.activeElement)") == ["skip", True, True]
    browser.press("Enter")
    assert browser.evaluate("document.activeElement.id || location.hash") in ("main", "#main")
    browser.evaluate("document.querySelector('#kernels details:last-of-type summary').focus()")
    before = browser.evaluate("document.activeElement.parentElement.open")
    browser.press("Enter")
    assert browser.evaluate("document.activeElement.parentElement.open") != before


def test_every_part_of_a_timeline_is_named_in_the_table(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["analysis"])
    numbers = browser.evaluate(
        "[...document.querySelectorAll('#mlp-1 tbody th')].map(e => e.textContent.trim().split(' ')[0])"
    )
    blocks = browser.evaluate("document.querySelectorAll('#mlp-1 .timeline > svg').length")
    assert numbers == [str(i + 1) for i in range(blocks)] and blocks == 5


def test_phone_rows_are_cards_and_still_a_table(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["analysis"], 375)
    row = "document.querySelector('#mlps tbody tr')"
    assert browser.evaluate(f"getComputedStyle({row}).display") == "grid"
    assert browser.evaluate(f"{row}.getAttribute('role')") == "row"
    labels = browser.evaluate(f"[...{row}.querySelectorAll('td')].map(e => e.dataset.label)")
    assert labels == [
        "Tokens",
        "Times",
        "Launches",
        "Time",
        "Idle",
        "Bound by",
        "Fused",
        "Saves in all",
        "Verdict",
    ]
