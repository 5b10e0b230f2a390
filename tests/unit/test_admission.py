"""Who may call: by calling AE title, and by address where one is named."""

import pytest

from daemon.domain.admission import AllowedCaller, AllowList, Caller, Denial, with_destinations
from daemon.domain.trust import Certificate, Proof


def caller(calling_ae: str, address: str) -> Caller:
    """Return a caller of ours."""
    return Caller(calling_ae=calling_ae, called_ae="OVERREAD", address=address)


def allow(*entries: str) -> AllowList:
    """Return the allow-list that these entries of the configuration make."""
    return AllowList(callers=frozenset(map(AllowedCaller.parse, entries)))


@pytest.mark.parametrize(
    ("entries", "calling_ae", "address", "denial"),
    [
        ((), "MR1", "10.0.0.5", Denial.UNKNOWN),
        (("MR1",), "MR1", "10.0.0.5", None),
        (("MR1",), "mr1", "10.0.0.5", Denial.UNKNOWN),
        (("MR1@10.0.0.5",), "MR1", "10.0.0.5", None),
        (("MR1@10.0.0.5",), "MR1", "10.0.0.6", Denial.ELSEWHERE),
        (("MR1@10.0.0.5", "MR1@10.0.1.0/24"), "MR1", "10.0.1.200", None),
        (("MR1@10.0.0.5", "MR2"), "MR1", "10.0.0.6", Denial.ELSEWHERE),
        (("MR1@2001:db8::/32",), "MR1", "2001:db8::7", None),
        (("MR1@2001:db8::/32",), "MR1", "10.0.0.5", Denial.ELSEWHERE),
        (("MR1@10.0.0.0/24",), "MR1", "::ffff:10.0.0.5", None),
        (("MR1@fe80::/10",), "MR1", "fe80::1%eth0", None),
        (("AT@HOME@10.0.0.5",), "AT@HOME", "10.0.0.5", None),
    ],
)
def test_a_caller_is_let_in_by_title_and_address(
    entries: tuple[str, ...], calling_ae: str, address: str, denial: Denial | None
) -> None:
    """A title alone is good everywhere, one with an address there only; IPv4 over an IPv6 socket is IPv4."""
    assert allow(*entries).denial(caller(calling_ae, address)) is denial


def test_any_caller_means_any() -> None:
    """Only that setting opens the door to titles that nobody named."""
    assert AllowList(any_caller=True).denial(caller("STRANGER", "192.0.2.1")) is None


def test_a_destination_may_report_from_anywhere_unless_it_is_named_with_an_address() -> None:
    """Commitment reports get in; naming a destination ties it to its address, and does not open it again."""
    named = [AllowedCaller.parse("PACS@10.0.0.5"), AllowedCaller.parse("MR1")]
    callers = AllowList(callers=with_destinations(named, ["PACS", "ARCHIVE"]))
    assert callers.denial(caller("ARCHIVE", "10.9.9.9")) is None
    assert callers.denial(caller("PACS", "10.0.0.5")) is None
    assert callers.denial(caller("PACS", "10.9.9.9")) is Denial.ELSEWHERE


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ("", "no AE title"),
        ("LONGER-THAN-SIXTEEN", "no AE title"),
        ("BACK\\SLASH", "no AE title"),
        ("MR1 ", "no AE title"),
        ("@10.0.0.5", "no AE title"),
        ("MR1@", "write AE, AE@10.0.0.5 or AE@10.0.0.0/24"),
        ("MR1@scanner.example", "scanner.example"),
        ("MR1@10.0.0.256", "10.0.0.256"),
        ("MR1@10.0.0.5/24", "has host bits set"),
    ],
)
def test_a_bad_entry_is_named(entry: str, named: str) -> None:
    """What is neither a title nor an address is refused with the entry, the cause and the forms that are right."""
    with pytest.raises(ValueError, match=named):
        AllowedCaller.parse(entry)


def test_a_certificate_must_be_the_callers_own() -> None:
    """Once certificates are named, a caller needs one of its title's; an empty name proves nothing."""
    digest = "AB:" * 31 + "AB"
    proofs = (Proof.parse("MR1=mr1.example"), Proof.parse(f"MR1=sha256:{digest}"), Proof.parse("MR2=mr2.example"))
    doors = AllowList(callers=frozenset(map(AllowedCaller.parse, ("MR1@10.0.0.5", "MR2", "MR3"))), proofs=proofs)

    def judged(calling_ae: str, certificate: Certificate | None, address: str = "10.0.0.5") -> Denial | None:
        caller = Caller(calling_ae=calling_ae, called_ae="OVERREAD", address=address, certificate=certificate)
        return doors.denial(caller)

    by_name = Certificate(fingerprint="0" * 64, names=frozenset({"mr1.example", ""}))
    by_digest = Certificate(fingerprint="ab" * 32, names=frozenset({""}))
    assert judged("MR1", by_name) is None
    assert judged("MR1", by_digest) is None
    assert judged("MR1", by_name, "10.0.0.6") is Denial.ELSEWHERE
    assert judged("MR2", by_name) is Denial.DISPROVEN
    assert judged("MR2", by_digest) is Denial.DISPROVEN
    assert judged("MR2", None) is Denial.DISPROVEN
    assert judged("MR3", by_name) is Denial.UNPROVEN


@pytest.mark.parametrize("entry", ["MR1", "=mr1.example", "MR1=", "MR1=sha256:abc"])
def test_a_bad_proof_is_named(entry: str) -> None:
    """What is no certificate of an AE title is refused, and the entry is quoted."""
    with pytest.raises(ValueError, match=entry):
        Proof.parse(entry)
