"""docs/conformance-statement.md says what the program does."""

import re

import pytest
from pynetdicom import build_context

from daemon.dimse.contexts import COMPREHENSIVE_3D_SR_STORAGE, MOST_CONTEXTS, RECEIVED, RETURNED, transfer_syntaxes
from daemon.dimse.listener import Listener, ListenerSettings
from daemon.dimse.requestor import RequestingEntity
from demo.ports import HOST
from tests.receptions import RememberingReception
from tests.statement import PATH, filled


def test_the_tables_are_those_of_the_code() -> None:
    """Making them anew changes nothing; `python -m tests.statement` does."""
    document = PATH.read_text(encoding="utf-8")
    assert filled(document) == document


def test_a_table_left_out_is_found() -> None:
    """A document without one of the tables, or with one that nobody makes, is refused."""
    document = PATH.read_text(encoding="utf-8")
    with pytest.raises(KeyError, match="rejections"):
        filled(document.replace("table: rejections", "table: refusals"))


def test_a_listener_accepts_what_the_statement_lists_and_nothing_else() -> None:
    """Every SOP class and transfer syntax of the tables is negotiated; reports are not taken."""
    document = PATH.read_text(encoding="utf-8")
    listed = {
        uid for uid in (*RECEIVED, *RETURNED, *transfer_syntaxes()) if re.search(rf"\| {re.escape(uid)} \|", document)
    }
    assert listed == {*RECEIVED, *RETURNED, *transfer_syntaxes()}
    syntaxes = list(transfer_syntaxes())
    asked = [build_context(sop_class, [uid]) for sop_class in (*RETURNED, *RECEIVED) for uid in syntaxes][
        : MOST_CONTEXTS - 1
    ]
    settings = ListenerSettings(ae_title="OVERREAD", port=0, allow_any_caller=True)
    with Listener(settings, RememberingReception()) as listener:
        entity = RequestingEntity(ae_title="TESTER")
        wanted = [*asked, build_context(COMPREHENSIVE_3D_SR_STORAGE, syntaxes[:1])]
        association = entity.associate(HOST, listener.port, contexts=wanted, ae_title="OVERREAD")
        accepted = {(c.abstract_syntax, c.transfer_syntax[0]) for c in association.accepted_contexts}
        association.release()
    assert accepted == {(c.abstract_syntax, c.transfer_syntax[0]) for c in asked}
