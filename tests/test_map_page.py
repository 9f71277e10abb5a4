"""The map as a page, in a real browser: that of a program with 200 signals, 1,000 connections."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import big_program
import pytest
from browser import chromium, press
from evil_program import EVIL
from test_map import drawn

pytestmark = pytest.mark.once

SIGNALS, CONNECTIONS = 200, 1_000


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The browser, with the page; each test begins by ``anew``."""
    big_program.make(SIGNALS, CONNECTIONS)
    path = tmp_path_factory.mktemp("map") / "map.html"
    path.write_text(drawn("html", "big_program:PROGRAM", "evil_program:evil"), encoding="utf-8")
    with chromium() as driver:
        driver.get(path.as_uri())
        yield driver
    big_program.forget()


@pytest.fixture
def anew(opened: Any) -> Any:
    opened.refresh()
    return opened


def ask(driver: Any, script: str, *arguments: Any) -> Any:
    return driver.execute_script(f"return {script}", *arguments)


SEEN = "[...document.querySelectorAll('section:not([hidden])')]"
ROWS = "[...document.querySelectorAll('section:not([hidden]) > .receiver:not([hidden])')]"


def test_page_shows_every_connection_and_asks_nobody(anew: Any) -> None:
    assert ask(anew, f"{SEEN}.length") == SIGNALS + 1
    assert ask(anew, f"{ROWS}.length") == CONNECTIONS + 2
    assert ask(anew, "document.querySelectorAll('nav a').length") == SIGNALS + 1
    assert ask(anew, "document.querySelectorAll('section.unheard').length") == SIGNALS // 20
    said = ask(anew, "document.querySelector('#summary').textContent")
    assert said == "201 signals, 1,002 connections; nobody hears 10 of them"
    assert anew.get_log("browser") == []
    events = [json.loads(each["message"])["message"] for each in anew.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"].endswith("WillBeSent")]
    assert asked
    assert all(url.startswith(("file:", "data:")) for url in asked)


def test_nothing_in_a_name_is_taken_for_the_page_itself(anew: Any) -> None:
    assert anew.title == "Map of signals"
    assert ask(anew, "document.images.length") == 0
    assert EVIL in ask(anew, f"{SEEN}.map(s => s.querySelector('h3').textContent).join()")


def test_nothing_is_wider_than_the_window(anew: Any) -> None:
    for width in (1440, 700):
        anew.set_window_size(width, 900)
        assert ask(anew, "document.documentElement.scrollWidth <= innerWidth")
    anew.set_window_size(1440, 900)


def test_search_leaves_what_has_all_the_words(anew: Any) -> None:
    press(anew, "/", *"notify paid")
    found = ask(anew, f"{ROWS}.map(r => [r.closest('section').textContent, r.textContent])")
    assert 0 < len(found) < CONNECTIONS
    for signal, row in found:
        assert "notify" in (signal + row)
        assert "paid" in (signal + row)
    assert set(
        ask(
            anew,
            "[...document.querySelectorAll('section:not([hidden]) mark')].map(m => m.textContent)",
        )
    ) == {
        "notify",
        "paid",
    }
    said = ask(anew, "document.querySelector('#summary').textContent")
    assert said == f"{ask(anew, f'{SEEN}.length')} of 201 signals, {len(found)} connections"
    press(anew, "\ue00c")  # Esc
    assert ask(anew, f"{ROWS}.length") == CONNECTIONS + 2
    assert ask(anew, "document.querySelector('#search').value") == ""


def test_filters_leave_what_they_say(anew: Any) -> None:
    anew.find_element("css selector", "[data-filter=unheard]").click()
    assert ask(anew, f"{SEEN}.every(s => s.classList.contains('unheard'))")
    assert ask(anew, f"{SEEN}.length") == SIGNALS // 20
    anew.find_element("css selector", "[data-filter=unheard]").click()
    anew.find_element("css selector", "[data-filter=async]").click()
    anew.find_element("css selector", "[data-filter=sender]").click()
    found = ask(anew, f"{ROWS}.map(r => r.textContent)")
    assert found
    assert all("async" in row and "from " in row for row in found)


def test_hover_and_focus_show_all_that_is_known(anew: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    assert ask(anew, "document.querySelector('#more').hidden")
    ActionChains(anew).move_by_offset(1, 1).perform()  # it may be on the row already
    row = ask(anew, f"{ROWS}[7]")
    ActionChains(anew).move_to_element(row).perform()
    name = ask(anew, "arguments[0].querySelector('.name').textContent", row)
    shown = ask(anew, "document.querySelector('#more').textContent")
    assert name in shown
    assert "held" in shown
    lit = ask(anew, "[...document.querySelectorAll('.lit .name')].map(n => n.textContent)")
    assert set(lit) == {name}
    press(anew, "\ue015")  # arrow down: the first signal
    shown = ask(anew, "document.querySelector('#more').textContent")
    assert "big.accounts.accounts_created(" not in shown  # its values have a line of their own
    assert shown.startswith("signalbig.accounts.accounts_created")
    assert ask(anew, "document.activeElement.classList.contains('head')")


def test_receiver_is_found_everywhere_by_keyboard(anew: Any) -> None:
    press(anew, "\ue015", "\ue015", "\ue007")  # down, down, Enter
    name = ask(anew, "document.activeElement.querySelector('.name').textContent")
    rows = ask(anew, f"{ROWS}.map(r => r.querySelector('.name').textContent)")
    assert len(rows) > 1
    assert set(rows) == {name}
    top = ask(anew, "document.activeElement.getBoundingClientRect().top")
    assert 0 < top < 900
    press(anew, "\ue00c")
    for _ in range(30):
        press(anew, "\ue015")
    box = ask(
        anew, "(({top, bottom}) => [top, bottom])(document.activeElement.getBoundingClientRect())"
    )
    assert ask(anew, "document.querySelector('header').offsetHeight") <= box[0]
    assert box[1] <= ask(anew, "innerHeight")


def test_page_is_dark_where_the_reader_wants_it(anew: Any) -> None:
    def brightness() -> float:
        color = ask(anew, "getComputedStyle(document.body).backgroundColor")
        return sum(map(int, color[4:-1].split(",")[:3])) / 3

    prefer = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    assert brightness() > 200
    press(anew, "d")
    assert brightness() < 60
    press(anew, "d")
    assert brightness() > 200
    anew.refresh()
    anew.execute_cdp_cmd("Emulation.setEmulatedMedia", prefer)
    assert brightness() < 60
    anew.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_page_without_signals_says_so(tmp_path: Path, opened: Any) -> None:
    before = opened.current_url
    path = tmp_path / "empty.html"
    path.write_text(drawn("html", "evil_program:evil", "--unheard"), encoding="utf-8")
    opened.get(path.as_uri())
    assert ask(opened, "document.querySelector('#summary').textContent") == (
        "0 signals, 0 connections"
    )
    opened.get(before)
