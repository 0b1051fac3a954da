"""The section on completeness: what an auditor reads of numbers, triggers and outages."""

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.reports import reading, samples
from traceai_reports import audit_report
from traceai_reports.completeness import lasting
from traceai_reports.document import MARGIN
from traceai_reports.station import Completeness, NumberBreak, Unquoted


@pytest.fixture
def out(tmp_path):
    return tmp_path / "audit.pdf"


def pages(out, *stations, **changes):
    audit_report(samples.audit(20, completeness=Completeness(stations=stations, **changes)), out)
    return reading.pages(out)


def section(out, *stations, **changes):
    text = " ".join(pages(out, *stations, **changes))
    return text[text.index("Completeness ") : text.index("Model versions in use")]


def test_nothing_missing_is_said_in_one_sentence(out):
    text = section(out, samples.station())
    assert "No outage is on record and no trigger is missing." in text
    assert "press-4 5,120 1,201 to 6,320, no gap each has its decision none" in text
    assert "Triggers without a decision" not in text
    assert "How long" not in text
    assert "Decisions are missing" not in pages(out, samples.station())[0]


def test_without_a_counter_it_is_said_what_cannot_be_told(out):
    text = section(out, samples.station(with_trigger=0))
    assert "No outage is on record." in text
    assert "no trigger is missing" not in text
    assert "At press-4 the camera's counter was not recorded, so a part that was never inspected cannot be told" in text
    assert "no gap not recorded none" in text


def test_a_counter_that_is_not_always_recorded_says_so(out):
    assert "recorded with 9 decisions; each has its decision" in section(out, samples.station(with_trigger=9))


def test_missing_triggers_are_on_the_first_page_and_in_a_table(out):
    first = pages(out, samples.holed())[0]
    assert "Decisions are missing" in first
    assert "press-4: 4 triggers of the camera have no decision, and no entry says why." in first
    text = section(out, samples.holed())
    assert "4 triggers have no decision and no explanation." in text
    assert "press-4 87041 to 87043 3 2026-03-03 06:00:00 2026-03-03 06:00:09 1702" in text
    assert "press-4 89300 1 unreadable 2026-03-06 06:00:00 2310" in text
    assert "No trigger is missing" not in text


def test_one_missing_trigger_is_spoken_of_as_one(out):
    one = samples.station(missing=samples.holed().missing[1:], missing_found=1, missing_triggers=1)
    assert "press-4: 1 trigger of the camera has no decision" in pages(out, one)[0]
    assert "1 trigger has no decision and no explanation." in section(out, one)


def test_outages_are_a_table_with_their_cause_and_what_they_cost(out):
    text = section(out, samples.holed())
    assert (
        "4 outages or gaps are on record: 1,245 decisions were recorded late and are all in the ledger, and 3 attempts were lost."
        in text
    )
    assert "1640 press-4 2026-03-04 06:07:00 2026-03-04 06:27:14 20 min 14 s PostgreSQL does not answer" in text
    assert "Triggers 88012 to 88014 have no decision. (spool-unusable) 4 3" in text
    assert "Trigger 88400 has no decision. (declared by s.marin)" in text
    assert "1 d 6 h" in text


def test_outages_without_a_missing_trigger_say_that_none_is_missing(out):
    text = section(out, samples.with_outages(samples.outage(delayed=1)))
    assert (
        "1 outage or gap is on record: 1 decision was recorded late and is in the ledger, and no attempt was lost."
        in text
    )
    assert "No trigger is missing without an explanation." in text


def test_an_outage_whose_entry_cannot_be_read_is_no_empty_line(out):
    outages = (samples.outage(), Unquoted(ledger_index=1_700, station="press-4"))
    text = section(out, samples.station(outages=outages, outages_found=2))
    assert "2 outages or gaps are on record: no decision was recorded late, and no attempt was lost." in text
    assert "1700 press-4 This entry is gone, was altered, or is no outage; what it said is not known." in text


def test_numbers_that_are_left_out_are_told(out):
    gap = NumberBreak(ledger_index=812, before=4, number=7)
    broken = samples.station(breaks=(gap,), breaks_found=1)
    assert "press-4: the numbers of its decisions have a gap." in pages(out, broken)[0]
    text = section(out, broken)
    assert "1,201 to 6,320, with gaps" in text
    assert "press-4: after number 4 comes 7, at ledger index 812." in text


def test_a_counter_that_began_anew_is_told(out):
    assert "A camera's counter began anew at press-4 (2)" in section(out, samples.station(restarts=2))


def test_what_is_not_listed_is_counted(out):
    text = section(out, samples.holed(missing_found=300, outages_found=4_000))
    assert "The newest 2 of 300 are listed." in text
    assert "The newest 4 of 4,000 are listed." in text


def test_of_many_stations_a_few_are_named_on_the_first_page(out):
    stations = [samples.holed(station=f"press-{number}", outages=()) for number in range(9)]
    first = pages(out, *stations)[0]
    assert "press-4: 4 triggers" in first
    assert "press-5: 4 triggers" not in first
    assert "And 4 more." in first


def test_a_report_on_parts_says_that_the_section_is_on_all_of_them(out):
    narrowed = section(
        out, samples.station(), since=samples.START, until=samples.START + timedelta(days=1), narrowed=True
    )
    assert (
        "covers all that these stations recorded from 2026-03-02 06:00:00 UTC until 2026-03-03 06:00:00 UTC, whatever the part"
        in narrowed
    )
    assert "whatever the part" not in section(out, samples.station())


def test_no_station_in_scope_is_said(out):
    assert "No station is in scope." in section(out)


def test_a_hundred_outages_and_stations_stay_inside_the_page_and_repeat_their_head(out):
    outages = [samples.outage(number, ledger_index=number) for number in range(100)]
    stations = [samples.with_outages(*outages), *(samples.station(f"press-{number}") for number in range(5, 90))]
    holding = [page for page in pages(out, *stations) if "What happened" in page]
    assert len(holding) > 2
    assert reading.outside(out, MARGIN) == []


@pytest.mark.parametrize("character", ["W", "件", "&", "<b>"])
def test_foreign_text_stays_inside_the_page_and_is_no_markup(out, character):
    name = (character * 200)[:200]
    one = samples.outage(
        station=name, cause=(character * 2000)[:2000], code=name, by=name, triggers=(2**53 - 2, 2**53 - 1)
    )
    hole = replace(samples.holed().missing[0], first=2**52, last=2**53 - 1)
    station = samples.with_outages(
        one, station=name, missing=(hole,), missing_found=1, missing_triggers=2**52, restarts=1,
        breaks=(NumberBreak(ledger_index=2**52, before=2**52, number=2**53 - 1),), breaks_found=1,
    )  # fmt: skip
    text = section(out, station)
    assert reading.outside(out, MARGIN) == []
    assert character != "<b>" or "<b><b>" in text


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "under 1 s"), (0.9, "under 1 s"), (1, "1 s"), (59.9, "59 s"), (60, "1 min"), (1214, "20 min 14 s"), (3600, "1 h"),
        (7500, "2 h 5 min"), (3601, "1 h"), (86400, "1 d"), (109800, "1 d 6 h"), (1e8, "1,157 d 9 h"),
    ],
)  # fmt: skip
def test_how_long_it_took_is_told_in_two_units(seconds, told):
    assert lasting(seconds) == told
