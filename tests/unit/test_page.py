"""The page's sections: pure functions from what is known to HTML."""

import re
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from netd.model.condition import Condition
from netd.model.endpoint import PortMapping
from netd.model.service import Check
from netd.model.views import Finding, PlannedOperation
from netd.registry.http.call import Target
from netd.registry.page.cluster import ENDPOINTS_MAX, HOSTS_MAX, NETWORKS_MAX
from netd.registry.page.document import SECTIONS, document, section_of
from netd.registry.page.html import WORD_MAX, Markup, element, listed, words
from netd.registry.page.parts import ROWS_MAX
from netd.registry.page.view import Query, View
from tests.unit.page_lab import (
    AT,
    STATUS,
    WRONG,
    Shown,
    drifted,
    endpoint,
    entry,
    member,
    network,
    own_endpoint,
    own_service,
    service,
    view,
    virtual,
)

EVIL = "\"><script>alert('1')</script><img src=x onerror=alert(1)>&lt;\x1b[31m\u202e\0"


def shown(name: str, of: View) -> Shown:
    return Shown(SECTIONS[name][1](of))


def whole(of: View) -> Shown:
    sections = Markup("".join(section_of(name, 1, SECTIONS[name][1](of)) for name in SECTIONS))
    zone = of.holdings.zone
    return Shown(document(zone.node, zone.zone, sections, of.query, "run"))


def furnished(word: str, query: Query | None = None) -> View:
    """One of each thing, with `word` wherever somebody else may choose one."""
    wrong = Condition(code=word, severity="error", detail=word, remedy=word, since=word)
    check = Check(id=word, name=word, kind=word, status="critical", output=word)
    ends = endpoint(word, word, container_id=word, aliases=(word,), network=word, node=word)
    instance = service(
        word, name=word, node=word, address=word, network=word, tags=(word,), checks=(check,)
    )
    finding = Finding(check=word, level="error", detail=word, remedy=word)
    operation = PlannedOperation(
        verb="add", object=word, ns=word, owner=word, reason=word, error=word
    )
    port = PortMapping(host_port=1, container_port=2, host_ip=word)
    found = view(
        entry("endpoint", word, ends),
        entry("service", word, instance),
        entry("virtual", word, replace(virtual(word), addresses=(word,), conditions=(wrong,))),
        query=query,
        **drifted(operation),
        members=(
            member(word, address=word, tags={word: word}, version=word, conditions=(wrong,)),
            member("host-2", rtt_ms=None),
        ),
        networks=(
            network(word, subnets=(word,), gateways=(word,), conditions=(wrong,), driver="overlay"),
        ),
        endpoints={word: replace(own_endpoint(word, wrong), ports=(port,))},
        services=(own_service(word, wrong),),
        findings=(finding,),
        problem=word,
        refused={word: word},
    )
    # The check has been otherwise, so that there is a history.
    before = replace(check, status="passing")
    history = found.history
    history.change(None, entry("service", word, replace(instance, checks=(before,))))
    history.change(None, entry("service", word, instance))
    return found


def test_all_that_others_choose_is_words() -> None:
    plain, evil = whole(furnished("word" * 25)), whole(furnished(EVIL))
    assert outline(evil) == outline(plain)
    assert evil.count("script") == 1  # its own
    assert "<script>alert('1')</script>" in evil.text
    for char in "\x1b\u202e\0":
        assert char not in evil.text
        assert all(char not in value for _, fields in evil.tags for value in fields.values())


def outline(of: Shown) -> list[tuple[str, list[str]]]:
    """Elements and the names of their attributes; without titles, which only long words have."""
    return [(tag, sorted(fields)) for tag, fields in of.tags if tag != "title"]


# What a program may register: any text; surrogates cannot come, as JSON from the socket is UTF-8.
_TEXTS = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from("<>&\"'`=/\0\n\t;%"),
    min_size=1,
    max_size=60,
)


@given(_TEXTS, st.sampled_from(["", "word", "<"]))
def test_any_text_leaves_the_page_as_it_is(text: str, query: str) -> None:
    found = whole(furnished(text, Query(words=query)))
    for tag, fields in found.tags:
        assert tag in _ELEMENTS, tag
        assert fields.keys() <= _ATTRIBUTES, fields
        for name in ("href", "src", "action"):
            assert fields.get(name, "/").startswith(("/", "#"))


_KNOWN = """
    html head meta title link script noscript body a header div h1 h2 p span form label input
    button nav ul ol li main section dl dt dd table caption thead tbody tr th td code time strong
    details summary svg rect path text footer
"""
_KNOWN_ATTRIBUTES = """
    action aria-hidden aria-label aria-labelledby autocomplete charset class content d data-key
    data-run data-version datetime defer for height href http-equiv id lang maxlength method
    name rel role rx scope src tabindex text-anchor type value viewbox width x xmlns y
"""
_ELEMENTS = frozenset(_KNOWN.split())
_ATTRIBUTES = frozenset(_KNOWN_ATTRIBUTES.split())


@given(_TEXTS)
def test_markup_is_made_of_nothing_but_markup(text: str) -> None:
    assert Shown(element("p", {"title": text}, text)).count("p") == 1
    assert words(words(text)) == words(text)
    assert len(Shown(element("p", None, text)).tags) == 1


def test_long_words_are_cut() -> None:
    assert words("x" * 10_000) == "x" * (WORD_MAX - 1) + "…"
    assert listed([str(number) for number in range(20)], 3) == "0, 1, 2 and 17 more"
    assert listed([]) == "-"


def test_the_document_keeps_to_its_policy() -> None:
    """No script, style or handler in it, and nothing from elsewhere."""
    found = whole(furnished("word"))
    for tag, fields in found.tags:
        assert tag != "style"
        assert "style" not in fields
        assert not any(name.startswith("on") for name in fields)
    (script,) = [fields for tag, fields in found.tags if tag == "script"]
    assert re.fullmatch(r"/assets/page\.[0-9a-f]{16}\.js", script["src"])
    identifiers = [fields["id"] for _, fields in found.tags if "id" in fields]
    assert len(identifiers) == len(set(identifiers))
    for tag, fields in found.tags:
        if "aria-labelledby" in fields:
            assert fields["aria-labelledby"] in identifiers
        if tag == "a" and fields["href"].startswith("#"):
            assert fields["href"][1:] in identifiers
    assert found.count("h1") == 1
    assert found.count("caption") == found.count("table")
    assert all("scope" in fields for tag, fields in found.tags if tag == "th")


def test_before_the_daemon_has_answered_nothing_is_claimed() -> None:
    empty: dict[str, Any] = dict.fromkeys(
        ("status", "members", "networks", "endpoints", "services", "plan", "findings")
    )
    found = view(entry("endpoint", "e1", endpoint("web")), **empty)
    for name in ("conditions", "drift", "checks", "members", "networks", "topology"):
        assert "Not known yet." in shown(name, found).text, name
    assert "web" in shown("endpoints", found).text
    assert "hosts alive" not in shown("overview", found).text


def test_a_host_that_is_well() -> None:
    found = view()
    assert "Nothing is known to be wrong." in shown("conditions", found).text
    assert "The kernel has what it should have." in shown("drift", found).text
    assert "All 1 find what they should." in shown("checks", found).text
    text = shown("overview", found).text
    assert "1 of 1 " in text.replace("hosts alive 1 of 1", "1 of 1 ")
    assert "netd 1.2.3" in text
    assert "Linux 6.1.0" in text
    for name in ("endpoints", "services", "virtuals"):
        assert "There is none." in shown(name, found).text


def test_what_is_wrong_comes_with_the_worst_first() -> None:
    info = replace(WRONG, severity="info", code="hint")
    error = replace(WRONG, severity="error", code="gone")
    found = view(
        entry("virtual", "web", replace(virtual("web"), conditions=(info,))),
        status=replace(STATUS, conditions=(WRONG,)),
        members=(member("host-1", conditions=(info,)),),
        networks=(network("blue", conditions=(WRONG,)),),
        endpoints={"e1": own_endpoint("e1", error)},
        services=(own_service("web-1", error),),
    )
    text = shown("conditions", found).text
    places = [text.index(word) for word in ("endpoint e1", "instance web-1", "host ▲", "member")]
    assert places == sorted(places)
    assert "network blue" in text
    assert "virtual address web" in text
    assert "raise it" in text
    assert "conditions ▲ 6" in shown("overview", found).text.replace("▲ 6 conditions", "x")
    assert "▲ degraded" in shown("networks", found).text


def test_drift_is_told_with_its_operations() -> None:
    operation = PlannedOperation(
        verb="add", object="link nd-blue", ns="", owner="blue", reason="missing", error="EPERM"
    )
    text = shown("drift", view(**drifted(operation))).text
    assert all(word in text for word in ("add link nd-blue", "missing", "host", "EPERM"))
    assert "operations to be needed" in shown("drift", view(**drifted())).text


def test_why_something_is_not_known_is_told() -> None:
    text = shown("overview", view(problem="connection refused")).text
    assert "netd does not answer: connection refused" in text
    assert "nothing new just now" in shown("overview", view(connected=False)).text
    refused = view(refused={"plan": "the kernel is busy"}, plan=None)
    assert "netd cannot tell:" in shown("overview", refused).text
    assert "plan (the kernel is busy)" in shown("overview", refused).text
    broken = view(status=replace(STATUS, config_error="netd.toml:3", ready=False))
    assert "not reloaded: netd.toml:3" in shown("overview", broken).text
    assert "▲ degraded" in shown("overview", broken).text


@pytest.mark.parametrize(
    ("state", "sign"), [("alive", "●"), ("suspect", "▲"), ("dead", "■"), ("left", "○")]
)
def test_members_have_a_sign_and_a_word(state: str, sign: str) -> None:
    found = view(members=(member(), member("host-2", state=state, reachable=False)))
    text = shown("members", found).text
    assert f"{sign} {state}" in text
    assert "not reached from here" in text
    assert "host-1 this host" in text


def test_endpoints_have_what_their_own_host_knows() -> None:
    ports = (
        PortMapping(host_port=8080, container_port=80),
        PortMapping(host_port=9000, container_port=9000, count=3, protocol="udp", host_ip="::1"),
    )
    found = view(
        entry("endpoint", "e1", endpoint("web", container_id="f" * 64)),
        entry("endpoint", "e2", endpoint("far", "10.20.0.9", node="host-2")),
        endpoints={"e1": replace(own_endpoint("e1"), ports=ports)},
    )
    text = shown("endpoints", found).text
    assert "8080 → 80/tcp, ::1:9000-9002 → 9000-9002/udp" in text
    assert "ffffffffffff…" in text
    assert text.index("web") < text.index("far")  # by host, then by name


@pytest.mark.parametrize(
    ("status", "sign"), [("passing", "●"), ("warning", "▲"), ("critical", "■")]
)
def test_instances_have_their_checks(status: str, sign: str) -> None:
    instance = service("web-1", status, address="fd20::2", tags=("v1", "eu"))
    found = view(entry("service", "web-1", instance), entry("virtual", "web", virtual("web")))
    section = shown("services", found)
    assert section.text.count(f"{sign} {status}") == 2
    assert "[fd20::2]:80" in section.text
    assert "v1, eu" in section.text
    (bars,) = [fields for tag, fields in section.tags if tag == "svg"]
    assert bars["aria-label"] == f"History: {status} at first"
    assert "80/tcp → 8080" in shown("virtuals", found).text
    assert section.count("details") == 0


def test_a_check_that_has_changed_has_a_history() -> None:
    found = view(entry("service", "web-1", service("web-1", "passing")))
    for status in ("critical", "warning", "passing"):
        change = entry("service", "web-1", service("web-1", status))
        found.history.change(None, change)
        found.holdings.change(None, change)
        assert shown("services", found).text.count(status) >= 2  # the instance's, the check's
    section = shown("services", found)
    bars = {fields["class"]: fields["d"] for tag, fields in section.tags if tag == "path"}
    assert bars == {
        "passing": "M0 0h5v16h-5zM21 0h5v16h-5z",
        "critical": "M7 10h5v6h-5z",
        "warning": "M14 5h5v11h-5z",
    }
    (drawing,) = [fields for tag, fields in section.tags if tag == "svg"]
    assert drawing["aria-label"].startswith("History: passing at first; critical since 2026")
    assert "3 changes" in section.text
    assert ("details", {"data-key": "web-1/tcp"}) in section.tags


def test_the_picture_has_what_can_be_looked_at() -> None:
    ends = [
        entry("endpoint", f"e{number}", endpoint(f"web-{number:03}", f"10.20.0.{number}"))
        for number in range(ENDPOINTS_MAX + 7)
    ]
    networks = tuple(network(f"net-{number:02}") for number in range(NETWORKS_MAX + 3))
    members = tuple(member(f"host-{number}") for number in range(1, HOSTS_MAX + 6))
    found = shown("topology", view(*ends, networks=(*networks, network()), members=members))
    assert "blue" in found.words  # it has endpoints, so it is not left out
    assert "and 7 more" in found.words
    assert f"host-{HOSTS_MAX}" in found.words
    assert f"host-{HOSTS_MAX + 1}" not in found.words
    assert "Not drawn: 5 more hosts and 4 more networks." in found.text
    kinds = [fields.get("class") for tag, fields in found.tags if tag == "rect"]
    assert kinds.count("endpoint") == ENDPOINTS_MAX + 1


def test_an_overlay_is_drawn_where_it_has_endpoints() -> None:
    found = shown(
        "topology",
        view(
            entry("endpoint", "e1", endpoint("a", node="host-1", network="wide")),
            entry("endpoint", "e2", endpoint("b", node="host-3", network="wide")),
            members=(member("host-1"), member("host-2"), member("host-3")),
            networks=(network("wide", driver="overlay", vni=4097),),
        ),
    )
    (band,) = [fields for tag, fields in found.tags if fields.get("class") == "overlay"]
    hosts = [fields for tag, fields in found.tags if fields.get("class") == "host"]
    assert int(band["width"]) > 2 * int(hosts[0]["width"])
    assert "overlay 4097 10.20.0.0/24" in found.text.replace("  ", " ")


# Many rows


def many(count: int, query: Query | None = None) -> View:
    ends = [
        entry("endpoint", f"e{number}", endpoint(f"web-{number:05}", f"10.20.0.{number % 250}"))
        for number in range(count)
    ]
    instances = [
        entry("service", f"web-{number:05}", service(f"web-{number:05}")) for number in range(count)
    ]
    return view(*ends, *instances, query=query)


def test_many_rows_are_shown_in_parts() -> None:
    for name in ("endpoints", "services"):
        first = shown(name, many(1000))
        assert first.count("tr") == 1 + ROWS_MAX
        assert "and 900 more" in first.text
        links = [fields for tag, fields in first.tags if tag == "a"]
        (link,) = links
        assert link["rel"] == "next"
        query = Query.of(Target(link["href"].partition("#")[0]))
        second = shown(name, many(1000, query))
        assert "101 to 200" in second.text
        assert "web-00100" in second.text
        assert [fields["rel"] for tag, fields in second.tags if tag == "a"] == ["prev", "next"]
    last = shown("endpoints", many(1000, Query(starts=(("endpoints", 950),))))
    assert last.count("tr") == 51
    beyond = shown("endpoints", many(1000, Query(starts=(("endpoints", 5000),))))
    assert [fields["rel"] for tag, fields in beyond.tags if tag == "a"] == ["prev"]


def test_rows_are_found_by_their_words() -> None:
    found = shown("endpoints", many(1000, Query(words="web-0099")))
    assert found.count("tr") == 1 + 10
    found = shown("services", many(1000, Query(words="10.20.0.2")))
    assert "and 900 more" in found.text
    none = shown("services", many(10, Query(words="nothing like it")))
    assert "Nothing of this has what is searched for." in none.text


def test_what_is_asked_for_is_taken_apart() -> None:
    query = Query.of(Target("/?q=%20Web%20&endpoints-from=200&services-from=x&reload=no"))
    assert query == Query("web", (("endpoints", 200),), reload=False)
    link = urlsplit(query.link("services", 100))
    assert parse_qs(link.query) == {
        "endpoints-from": ["200"],
        "services-from": ["100"],
        "q": ["web"],
        "reload": ["no"],
    }
    assert link.fragment == "services"


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200), st.text(max_size=30))
def test_no_query_is_too_odd(search: str, start: str) -> None:
    target = Target("/?" + urlencode({"q": search, "members-from": start}, errors="replace"))
    query = Query.of(target)
    found = whole(furnished("word", query))
    assert found.count("main") == 1
    again = Query.of(Target(query.link("members", query.start("members")).partition("#")[0]))
    assert again == query


# Who may ask by which name


def test_times_are_shown_without_their_fractions() -> None:
    text = shown("members", view()).text
    assert "2026-11-29 04:04:33" in text
    assert AT not in text
