"""Eureka's instances in JSON and XML: what comes in, what goes out."""

import xml.etree.ElementTree as ElementTree
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netd.registry.eureka import json_form, xml_form, xml_reading
from netd.registry.eureka.instances import (
    DataCenter,
    Instance,
    Lease,
    Malformed,
    PortOf,
    complaint,
)
from netd.registry.eureka.objects import from_object, to_object
from netd.registry.eureka.statuses import effective, hashcode
from tests.unit.eureka_lab import instance_object

XML = b"""<?xml version="1.0" encoding="UTF-8"?>
<instance>
  <instanceId>web-1:orders:8080</instanceId>
  <hostName>web-1</hostName><app>orders</app><ipAddr>192.0.2.8</ipAddr>
  <status>STARTING</status><overriddenstatus>UNKNOWN</overriddenstatus>
  <port enabled="false">8080</port><securePort enabled="true">8443</securePort>
  <countryId>1</countryId>
  <dataCenterInfo class="com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo">
    <name>MyOwn</name>
  </dataCenterInfo>
  <leaseInfo><renewalIntervalInSecs>5</renewalIntervalInSecs><durationInSecs>15</durationInSecs>
  </leaseInfo>
  <metadata><zone> a&amp;b </zone><my__key>x</my__key><_.0031st>y</_.0031st><_-cash>z</_-cash>
  </metadata>
  <vipAddress>orders</vipAddress>
  <lastDirtyTimestamp>1500000000000</lastDirtyTimestamp>
</instance>"""

# What XML can hold and expat gives back as it was.
texts = st.text(
    st.characters(
        min_codepoint=32, exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"
    ),
    max_size=20,
)
plain_texts = texts.map(str.strip)
keys = texts.filter(lambda key: key not in ("", "@class") and "_" not in key)
numbers = st.integers(0, 2**53)
ports = st.builds(PortOf, st.integers(0, 65_535), st.booleans())
states = st.sampled_from(["UP", "DOWN", "STARTING", "OUT_OF_SERVICE", "UNKNOWN"])
centers = st.builds(
    DataCenter,
    kind=plain_texts.filter(bool),
    name=plain_texts,
    metadata=st.dictionaries(keys, texts, max_size=3),
)
leases = st.builds(
    Lease,
    renewal_s=st.integers(1, 9999),
    duration_s=st.integers(1, 9999),
    registered_ms=numbers,
    renewed_ms=numbers,
    evicted_ms=numbers,
    up_ms=numbers,
)
instances = st.builds(
    Instance,
    instance_id=plain_texts.filter(bool),
    host_name=plain_texts,
    app=st.text("ABC09-_.", min_size=1, max_size=10),
    ip_addr=plain_texts,
    status=states,
    overridden_status=states,
    port=ports,
    secure_port=ports,
    country_id=numbers,
    data_center=centers,
    lease=leases,
    metadata=st.dictionaries(keys, texts, max_size=5),
    home_page_url=plain_texts,
    vip_address=plain_texts,
    is_coordinating=st.booleans(),
    updated_ms=numbers,
    dirty_ms=numbers,
)


@given(instances)
def test_json_gives_back_what_it_was_given(instance: Instance) -> None:
    written = json_form.one_instance(json_form.write_instance(instance, "ADDED"))
    assert json_form.read_instance(written) == instance


@given(instances)
def test_xml_gives_back_what_it_was_given(instance: Instance) -> None:
    written = xml_form.write_instance(instance, "ADDED")
    assert xml_reading.read_instance(written) == instance
    ElementTree.fromstring(written)  # other parsers, too


def test_shape_of_json() -> None:
    found = to_object(from_object({"instance": instance_object()}), "MODIFIED")
    assert found["port"] == {"$": 8080, "@enabled": "true"}
    assert found["overriddenStatus"] == "UNKNOWN"
    assert found["lastDirtyTimestamp"] == "1000"
    assert found["lastUpdatedTimestamp"] == "0"
    assert found["leaseInfo"]["durationInSecs"] == 90
    assert found["isCoordinatingDiscoveryServer"] == "false"
    assert found["actionType"] == "MODIFIED"
    assert found["countryId"] == 1
    assert found["dataCenterInfo"] == {
        "@class": "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo",
        "name": "MyOwn",
    }
    assert "homePageUrl" not in found
    bare = to_object(from_object(instance_object(metadata={})))
    assert bare["metadata"] == {"@class": "java.util.Collections$EmptyMap"}


def test_the_reduced_form_has_what_reaches_it() -> None:
    instance = from_object(instance_object())
    written = json_form.write_instance(instance, "ADDED", reduced=True)
    found = msgspec.json.decode(written)
    assert found["port"]["$"] == 8080
    assert "leaseInfo" not in found
    assert b"leaseInfo" not in xml_form.write_instance(instance, "ADDED", reduced=True)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"port": 81}, {"port": PortOf(81, True)}),
        ({"port": "81"}, {"port": PortOf(81, True)}),
        ({"port": [{"$": ["81"], "@enabled": False}]}, {"port": PortOf(81, False)}),
        ({"app": ["orders"]}, {"app": "ORDERS"}),
        ({"instanceId": None}, {"instance_id": "web-1"}),
        ({"overriddenstatus": None, "overriddenStatus": "DOWN"}, {"overridden_status": "DOWN"}),
        ({"status": "sideways"}, {"status": "UNKNOWN"}),
        ({"status": None}, {"status": "UP"}),
        (
            {"metadata": {"a": 1, "b": True, "c": None}},
            {"metadata": {"a": "1", "b": "true", "c": ""}},
        ),
        ({"metadata": {"@class": "java.util.Collections$EmptyMap"}}, {"metadata": {}}),
        ({"leaseInfo": None}, {"lease": Lease()}),
        ({"leaseInfo": {"durationInSecs": "0"}}, {"lease": Lease()}),
        ({"dataCenterInfo": None}, {"data_center": None}),
        ({"lastDirtyTimestamp": 12}, {"dirty_ms": 12}),
    ],
)
def test_what_clients_may_write_otherwise(more: dict[str, Any], expected: dict[str, Any]) -> None:
    found = from_object({"instance": [instance_object(**more)]})
    for name, value in expected.items():
        assert getattr(found, name) == value


@pytest.mark.parametrize(
    "more",
    [
        {"port": {"$": 70_000}},
        {"port": "http"},
        {"port": {"$": {"$": 1}}},
        {"hostName": {"a": 1}},
        {"hostName": ["a", "b"]},
        {"metadata": {"a": {}}},
        {"metadata": 3},
        {"metadata": {str(number): "" for number in range(300)}},
        {"leaseInfo": 3},
        {"dataCenterInfo": "x"},
        {"lastDirtyTimestamp": "soon"},
        {"lastDirtyTimestamp": "9" * 30},
        {"countryId": 1.5},
        {"app": "x" * 5000},
    ],
)
def test_what_is_no_instance(more: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        from_object(instance_object(**more))


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"instanceId": "", "hostName": ""}, "Missing instanceId"),
        ({"hostName": ""}, "Missing hostname"),
        ({"ipAddr": ""}, "Missing ip address"),
        ({"app": ""}, "Missing appName"),
        ({"app": "OTHER"}, "Mismatched appName, expecting orders but was OTHER"),
        ({"dataCenterInfo": None}, "Missing dataCenterInfo"),
        ({"dataCenterInfo": {"@class": "x"}}, "Missing dataCenterInfo Name"),
        ({}, ""),
    ],
)
def test_what_a_registration_lacks(more: dict[str, Any], text: str) -> None:
    assert complaint(from_object(instance_object(**more)), "orders") == text


def test_reading_xml() -> None:
    found = xml_reading.read_instance(XML)
    assert found.app == "ORDERS"
    assert found.status == "STARTING"
    assert found.port == PortOf(8080, False)
    assert found.secure_port == PortOf(8443, True)
    assert found.data_center == DataCenter()
    assert found.lease == Lease(renewal_s=5, duration_s=15)
    assert found.metadata == {"zone": " a&b ", "my_key": "x", "1st": "y", "$cash": "z"}
    assert found.dirty_ms == 1_500_000_000_000
    assert complaint(found, "orders") == ""


def test_xml_as_clients_take_it_apart() -> None:
    instance = from_object(instance_object(metadata={"a b": "<&>\"'\x00", "my_key": "1"}))
    root = ElementTree.fromstring(xml_form.write_instance(instance, "ADDED"))
    port = root.find("port")
    assert port is not None
    assert (port.text, port.get("enabled")) == ("8080", "true")
    center = root.find("dataCenterInfo")
    assert center is not None
    assert center.get("class", "").endswith("$DefaultDataCenterInfo")
    assert center.findtext("name") == "MyOwn"
    assert root.findtext("overriddenstatus") == "UNKNOWN"
    metadata = root.find("metadata")
    assert metadata is not None
    assert {each.tag: each.text for each in metadata} == {
        "a_.0020b": "<&>\"'\ufffd",
        "my_key": "1",
    }


_BILLION = b"""<!DOCTYPE instance [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;">]>
<instance><app>&b;</app></instance>"""
_FILE = (
    b"""<!DOCTYPE i [<!ENTITY f SYSTEM "file:///etc/passwd">]><instance><app>&f;</app></instance>"""
)
_OUTER = b"""<!DOCTYPE i SYSTEM "http://192.0.2.1/x.dtd"><instance/>"""


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<",
        b"<applications/>",
        b"<instance><app></instance>",
        b"<instance/><instance/>",
        b"<instance>\x00</instance>",
        b"\xff\xfe\x00",
        b'<?xml version="1.0" encoding="no-such"?><instance/>',
        b'<?xml version="1.0" encoding="utf-7"?><instance/>',
        b"<instance><metadata><a><b/></a></metadata></instance>",
        b"<instance><app>&nothing;</app></instance>",
        b"<instance>" + b"<a>" * 100 + b"</a>" * 100 + b"</instance>",
        b"<instance>" + b"<a/>" * 2000 + b"</instance>",
        b"<instance " + b" ".join(b'a%d="1"' % number for number in range(100)) + b"/>",
        b"<instance><app>" + b"x" * 300_000 + b"</app></instance>",
        b"<!DOCTYPE instance><instance/>",
        _BILLION,
        _FILE,
        _OUTER,
    ],
    ids=range(19),
)
def test_xml_that_is_not_read(data: bytes) -> None:
    with pytest.raises(Malformed):
        xml_reading.read_instance(data)


def test_no_document_type_is_read_at_all() -> None:
    for data in (_BILLION, _FILE, _OUTER):
        with pytest.raises(Malformed, match="document types"):
            xml_reading.read_instance(data)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"3", b"null", b'{"instance": []}', b"[" * 100_000, b'"\xff"']
)
def test_json_that_is_not_read(data: bytes) -> None:
    with pytest.raises(Malformed):
        json_form.read_instance(data)


fragments = st.lists(
    st.sampled_from(
        [
            *(
                b"<instance>",
                b"</instance>",
                b"<app>",
                b"</app>",
                b"<port enabled='x'>",
                b"</port>",
            ),
            *(b"<metadata>", b"</metadata>", b"<a/>", b"x", b"&amp;", b"&#0;", b"&x;", b"]]>"),
            *(
                b"<![CDATA[",
                b"<!-- ",
                b"-->",
                b"<?pi ?>",
                b"<!DOCTYPE a [",
                b"<!ENTITY a 'b'>",
                b"]>",
            ),
            *(b"\xff", b"1", b"<leaseInfo>", b"</leaseInfo>", b"<dataCenterInfo class=''>"),
        ]
    ),
    max_size=30,
).map(b"".join)


@settings(max_examples=300)
@given(
    st.one_of(st.binary(max_size=200), fragments, fragments.map(b"<instance>%b</instance>".__mod__))
)
def test_any_xml_is_read_or_refused(data: bytes) -> None:
    try:
        found = xml_reading.read_instance(data)
    except Malformed:
        return
    assert xml_reading.read_instance(xml_form.write_instance(found, "ADDED")).app == found.app


anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["$", "@enabled", "@class", "name", "metadata", "durationInSecs", "x"]),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=8,
)


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from(list(instance_object())), anything))
def test_any_object_is_taken_or_refused(fields: dict[str, Any]) -> None:
    try:
        found = from_object(instance_object(**fields))
    except Malformed:
        return
    assert from_object(msgspec.json.decode(json_form.write_instance(found, "ADDED"))) is not None
    ElementTree.fromstring(xml_form.write_instance(found, "ADDED"))


@given(st.binary(max_size=100))
def test_any_bytes_are_json_or_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        json_form.read_instance(data)


@pytest.mark.parametrize(
    ("own", "override", "leased", "replicated", "expected"),
    [
        ("DOWN", "UP", "UP", False, "DOWN"),
        ("STARTING", "OUT_OF_SERVICE", "UP", False, "STARTING"),
        ("UP", "OUT_OF_SERVICE", "UP", False, "OUT_OF_SERVICE"),
        ("OUT_OF_SERVICE", "UP", "UNKNOWN", False, "UP"),
        ("UP", "UNKNOWN", "OUT_OF_SERVICE", False, "OUT_OF_SERVICE"),
        ("UP", "UNKNOWN", "OUT_OF_SERVICE", True, "UP"),
        ("UP", "UNKNOWN", "DOWN", False, "UP"),
        ("UP", "UNKNOWN", "UNKNOWN", False, "UP"),
    ],
)
def test_which_status_holds(
    own: str, override: str, leased: str, replicated: bool, expected: str
) -> None:
    assert effective(own, override, leased, replicated=replicated) == expected


def test_hashcode() -> None:
    assert hashcode(["UP", "DOWN", "UP"]) == "DOWN_1_UP_2_"
    assert hashcode([]) == ""
