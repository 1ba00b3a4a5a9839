"""Rules of access control: which holds for a name, and the text they are written in."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from netd.registry.consul.acl_document import BUILT_IN, Document, Policy, Token, rules_for
from netd.registry.consul.acl_rules import RESOURCES, SCALARS, Rule, Rules
from netd.registry.consul.acl_text import TEXT_MAX, BadRules, rules_of
from netd.registry.http.rights import Access, Resource

NAMES = st.text("ab/", max_size=4)
ACCESS: st.SearchStrategy[Access] = st.sampled_from(("deny", "read", "list", "write"))
RULES = st.lists(
    st.builds(Rule, st.sampled_from(("key", "service")), NAMES, st.booleans(), ACCESS), max_size=8
)
LEVELS = ("deny", "read", "list", "write")


def naive(rules: list[Rule], default: Access, resource: Resource, name: str) -> Access:
    """What holds, by looking at all of them."""
    of_name = [each for each in rules if each.resource == resource]
    best = [each for each in of_name if not each.is_prefix and each.name == name]
    if not best:
        fitting = [each for each in of_name if each.is_prefix and name.startswith(each.name)]
        longest = max((len(each.name) for each in fitting), default=-1)
        best = [each for each in fitting if len(each.name) == longest]
    if not best:
        return default
    given_ = {each.access for each in best}
    return "deny" if "deny" in given_ else max(given_, key=LEVELS.index)


@given(RULES, st.sampled_from(("deny", "write")), st.sampled_from(("key", "service")), NAMES)
def test_the_longest_prefix_holds(
    rules: list[Rule], default: Access, resource: Resource, name: str
) -> None:
    holds = LEVELS.index(naive(rules, default, resource, name))
    made = Rules(rules, default)
    for level, access in enumerate(LEVELS):
        assert made.may(resource, name, access) == (holds >= level)  # type: ignore[arg-type]


@given(RULES, st.sampled_from(("deny", "write")), NAMES, NAMES)
def test_who_may_write_all_that_begins_so_may_write_each(
    rules: list[Rule], default: Access, prefix: str, rest: str
) -> None:
    made = Rules(rules, default)
    if made.may_write_all(prefix):
        assert made.may("key", prefix + rest, "write")


@given(RULES, st.permutations(range(8)))
def test_the_order_of_rules_does_not_matter(rules: list[Rule], order: list[int]) -> None:
    others = [rules[number] for number in order if number < len(rules)]
    for name in ("", "a", "ab", "a/b", "b"):
        for access in LEVELS:
            ways = [Rules(each, "deny").may("key", name, access) for each in (rules, others)]  # type: ignore[arg-type]
            assert ways[0] == ways[1]


def test_names_of_services_are_the_same_in_any_case_and_keys_are_not() -> None:
    made = Rules(
        rules_of('service "Web" { policy = "write" } key "K" { policy = "write" }'), "deny"
    )
    assert made.may("service", "wEB", "write")
    assert made.may("key", "K", "write")
    assert not made.may("key", "k", "read")


def test_nobody_may_change_rights_by_default() -> None:
    assert not Rules((), "write").may("acl", "", "read")
    assert Rules((), "write").may("operator", "", "write")
    assert Rules(rules_of('acl = "read"'), "deny").may("acl", "", "read")


def test_a_tree_is_deleted_by_who_may_write_all_of_it() -> None:
    text = 'key_prefix "" { policy = "write" } key "a/b" { policy = "read" }'
    made = Rules(rules_of(text), "deny")
    assert not made.may_write_all("")
    assert not made.may_write_all("a/")
    assert made.may_write_all("b/")
    assert not Rules(rules_of('key "a" { policy = "write" }'), "deny").may_write_all("a")


def test_the_policies_that_are_built_in_are_about_all_there_is() -> None:
    for policy, access in zip(BUILT_IN, ("write", "read"), strict=True):
        found = rules_of(policy.rules)
        assert {rule.resource for rule in found} == set(RESOURCES)
        assert all(rule.is_prefix and rule.name == "" for rule in found)
        assert {rule.access for rule in found} == {access}


def test_a_policy_that_cannot_be_read_denies() -> None:
    """As one of a newer netd."""
    newer = Policy(id="p", name="p", rules='place "x" { policy = "write" }')
    own = Policy(id="q", name="q", rules='key "k" { policy = "write" }')
    token = Token(accessor="t", secret_hash="h", policies=("p", "q", "gone"))
    made = Rules(rules_for(Document(policies=(newer, own)), token), "write")
    assert not any(made.may(each, "x", "read") for each in RESOURCES)
    assert made.may("key", "k", "write")


def test_what_a_token_for_a_service_or_a_node_needs() -> None:
    token = Token(accessor="t", secret_hash="h", services=("web",), nodes=("host-1",))
    made = Rules(rules_for(Document(), token), "deny")
    for name in ("web", "web-sidecar-proxy"):
        assert made.may("service", name, "write")
    assert made.may("service", "api", "read")
    assert not made.may("service", "api", "write")
    assert made.may("node", "host-1", "write")
    assert made.may("node", "host-2", "read")
    assert not made.may("key", "", "read")


# The text


def test_both_forms_say_the_same() -> None:
    hcl = """
    # what web needs
    service "web" { policy = "write" intentions = "read" } // and its like
    service_prefix "" { policy = "read" }
    key_prefix "config/\\"x\\"/" {
      policy = "list",
    }
    /* not a lot */ operator = "read"
    query "" = { "policy" = "deny" }
    """
    text = json.dumps(
        {
            "service": {"web": {"policy": "write", "intentions": "read"}},
            "service_prefix": [{"": {"policy": "read"}}],
            "key_prefix": {'config/"x"/': [{"policy": "list"}]},
            "operator": "read",
            "query": {"": {"policy": "deny"}},
        }
    )
    wanted = (
        Rule("service", "web", is_prefix=False, access="write"),
        Rule("service", "", is_prefix=True, access="read"),
        Rule("key", 'config/"x"/', is_prefix=True, access="list"),
        Rule("operator", "", is_prefix=True, access="read"),
        Rule("query", "", is_prefix=False, access="deny"),
    )
    assert rules_of(hcl) == rules_of(text) == wanted
    assert rules_of("") == rules_of(" \n # nothing \n") == rules_of("{}") == ()


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ('service "web" { policy = "writ" }', "Invalid service policy: 'writ'"),
        ('service "web" { policy = "list" }', "Invalid service policy: 'list'"),
        ('service "web" {}', "Invalid service policy: ''"),
        ('services "web" { policy = "read" }', "'services' is no resource with names"),
        ('operator "x" { policy = "read" }', "'operator' is no resource with names"),
        ('operator_prefix "x" { policy = "read" }', "'operator_prefix' is no resource"),
        ('service = "read"', "'service' is no resource without names"),
        ('service "web" { polcy = "read" }', "'polcy' is not known"),
        ('key "a" { policy = "read" intentions = "read" }', "'intentions' is not known"),
        ('service "a" { policy = "read" intentions = "all" }', "intentions are"),
        ('service "web" { policy = "read"', "line 1: a name is wanted, not 'the end'"),
        ('\nservice web { policy = "read" }', "line 2: a text in quotes is wanted, not 'web'"),
        ("\n\n  %", "line 3: '%' is no rule"),
        ('key "a', "line 1: '\"a' is no rule"),
        ('key "\\x" { policy = "read" }', "'\\\\x' is no escape"),
        ('key "a" { policy = "read" policy = "write" }', "one 'policy' only"),
        ("/* no end", "is no rule"),
        ('{"service": {"web": "read"}}', "'web': an object as"),
        ('{"service": 7}', "'service': an object of names is wanted"),
        ("{", "no JSON"),
        ("#" * (TEXT_MAX + 1), f"more than {TEXT_MAX} characters"),
        ('key "a" { policy = "read" }\n' * 1025, "more than 1024 rules"),
    ],
)
def test_what_is_no_text_of_rules(text: str, detail: str) -> None:
    with pytest.raises(BadRules) as caught:
        rules_of(text)
    assert detail in str(caught.value)


WORDS = st.sampled_from(
    (
        *RESOURCES,
        *(f"{each}_prefix" for each in RESOURCES),
        *('"a"', '""', '"\\"', "{", "}", "=", ",", "policy", '"read"', "#", "//", "/*", "*/", "\n"),
    )
)


@given(st.lists(WORDS, max_size=30).map(" ".join) | st.text(max_size=200))
@example('"' * 2000)
@example("/*" * 2000)
@example("{" * 2000)
@example('{"a":' * 2000)
@example("\\u" * 100)
@example('key "\\ud800" { policy = "read" }')
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = rules_of(text)
    except BadRules:
        return
    assert all(rule.resource in RESOURCES for rule in found)


NAMED = st.sampled_from([each for each in RESOURCES if each not in SCALARS])
TEXTS = st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]), max_size=10)


@given(st.lists(st.builds(Rule, NAMED, TEXTS, st.booleans(), st.sampled_from(("read", "write")))))
def test_what_is_written_is_read(rules: list[Rule]) -> None:
    written = ""
    for rule in rules:
        kind = rule.resource + ("_prefix" if rule.is_prefix else "")
        name = "".join(f"\\u{ord(each):04x}" for each in rule.name)
        written += f'{kind} "{name}" {{ policy = "{rule.access}" }}\n'
    assert list(rules_of(written)) == rules
