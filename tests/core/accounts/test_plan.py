"""The strategies file: what is wrong is said in one line, with its path, what was expected and what was found."""

import re
from pathlib import Path

import pytest

from core.accounts import params
from core.accounts.params import routes
from core.accounts.plan import parsed

FILE = Path(__file__).parents[3] / "config" / "strategies.yaml"
ACCOUNT = "{name: paper, cash: 1000}"
STRATEGY = '{name: s, account: paper, instruments: ["binance:BTC-USDT"], size_pct: 4}'


def complaint(accounts: str = ACCOUNT, strategies: str = STRATEGY) -> str:
    """Return what is said of a file with these accounts and strategies; fail if nothing is."""
    with pytest.raises(ValueError) as refused:
        parsed(f"accounts: [{accounts}]\nstrategies: [{strategies}]".encode())
    assert "\n" not in str(refused.value)
    return str(refused.value)


def account(rest: str) -> str:
    """Return the complaint about an account that has this beside its name."""
    return complaint(f"{{name: paper, {rest}}}")


def risk(rest: str) -> str:
    return account(f"cash: 1000, risk: {{{rest}}}")


def strategy(rest: str) -> str:
    """Return the complaint about a strategy that has this instead of or beside what it needs."""
    fields = dict(re.findall(r"(\w+): (\[.*?\]|[^,}]+)", STRATEGY))
    own = dict(re.findall(r"(\w+): (\[.*?\]|\{.*?\}|[^,}]+)", rest))
    return complaint(strategies="{" + ", ".join(f"{name}: {value}" for name, value in (fields | own).items()) + "}")


def test_the_file_that_is_shipped_is_good_and_has_five_strategies():
    found = parsed(FILE.read_bytes())
    assert {name: len(own.strategies) for name, own in found.items()} == {"paper": 5}
    assert set(routes(found).values()) == {("paper",)}
    assert list(routes(found)) == list(found["paper"].instruments) == [
        "binance:BTC-USDT", "binance:ETH-USDT", "binance_futures:BTC-USDT-PERP", "binance_futures:ETH-USDT-PERP",
    ]  # fmt: skip


def test_what_the_tests_below_spoil_is_good():
    assert parsed(f"accounts: [{ACCOUNT}]\nstrategies: [{STRATEGY}]".encode())["paper"].account.cash == 1000


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file: expected object, was None"),
        (b"# nothing but words\n", "the file: expected object, was None"),
        (b"hello", "the file: expected object, was 'hello'"),
        (b"strategies: []", "the file: expected the key accounts, which is missing"),
        (b"accounts: []", "accounts: expected array of length >= 1, was []"),
        (b"accounts: 1", "accounts: expected array, was 1"),
        (b"accounts: [{name: a, cash: 1}]\nstratgies: []", "the file: expected known keys only, was stratgies"),
    ],
)
def test_a_file_that_is_no_plan(content, said):
    with pytest.raises(ValueError) as refused:
        parsed(content)
    assert str(refused.value) == said


@pytest.mark.parametrize("content", [b"[", b"\xff\xfe\x00", b"\x80abc", b"{a: {b: [}}", b"? [1]\n: 2", b"a:\n\t- b", b"- " * 2_000 + b"1"])
def test_what_is_no_yaml_is_said_to_be_none(content):
    with pytest.raises(ValueError) as refused:
        parsed(content)
    assert re.match("the file: expected (YAML|object)", str(refused.value)) and "\n" not in str(refused.value)


def test_a_number_of_thousands_of_digits_is_refused():
    assert account("cash: 1" + "0" * 5_000).startswith("the file: expected values that can be read, was: ")


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        (lambda: risk("exposure: 5"), "accounts[0].risk: expected known keys only, was exposure"),
        (lambda: account("csh: 1000"), "accounts[0]: expected known keys only, was csh"),
        (lambda: strategy("sizes: 3"), "strategies[0]: expected known keys only, was sizes"),
        (lambda: strategy("filters: {max_spred_bps: 3}"), "strategies[0].filters: expected known keys only, was max_spred_bps"),
        (lambda: account("quote: USDT"), "accounts[0]: expected the key cash, which is missing"),
        (lambda: strategy("name: A"), "strategies[0].name: expected str matching regex '^[a-z0-9][a-z0-9_-]{0,63}$', was 'A'"),
        (lambda: strategy("phase: 4"), "strategies[0].phase: expected an allowed value (invalid enum value 4), was 4"),
        (lambda: strategy("direction: up"), "strategies[0].direction: expected an allowed value (invalid enum value 'up'), was 'up'"),
        (lambda: strategy("instruments: []"), "strategies[0].instruments: expected array of length >= 1, was []"),
        (lambda: strategy("size_pct: 0"), "strategies[0].size_pct: expected float > 0.0, was 0"),
        (lambda: strategy("size_pct: 101"), "strategies[0].size_pct: expected float <= 100.0, was 101"),
        (lambda: strategy("size_pct: a lot"), "strategies[0].size_pct: expected float, was 'a lot'"),
        (lambda: strategy("filters: {min_score: 6}"), "strategies[0].filters.min_score: expected float <= 5.0, was 6"),
        (lambda: strategy("limits: {max_positions: 0}"), "strategies[0].limits.max_positions: expected int >= 1, was 0"),
        (lambda: strategy("exits: {stop_loss_bps: -5}"), "strategies[0].exits.stop_loss_bps: expected float > 0.0, was -5"),
        (lambda: risk("drawdown_pct: 0"), "accounts[0].risk.drawdown_pct: expected float > 0.0, was 0"),
        (lambda: risk("breaker_seconds: 0.5"), "accounts[0].risk.breaker_seconds: expected float >= 1.0, was 0.5"),
        (lambda: account("cash: 0"), "accounts[0].cash: expected money above 0 and at most 10^12, was 0"),
        (lambda: account("cash: 1000000000001"), "accounts[0].cash: expected money above 0 and at most 10^12, was 1000000000001"),
        (lambda: account("cash: much"), "accounts[0].cash: expected an allowed value (invalid decimal string), was 'much'"),
        (lambda: account("cash: 100.005"), "accounts[0].cash: expected a multiple of 0.01 USDT, was 100.005"),
        (
            lambda: risk("exposure_pct: 10, instrument_exposure_pct: 20"),
            "accounts[0].risk.instrument_exposure_pct: expected at most exposure_pct, 10, was 20",
        ),
        (
            lambda: complaint("{name: watch, cash: 1}"),
            "accounts[0].name: expected another name than 'watch', which instruments that nobody trades report to",
        ),
        (lambda: complaint(f"{ACCOUNT}, {ACCOUNT}"), "accounts[1]: expected each name once, was 'paper' again"),
        (lambda: complaint(strategies=f"{STRATEGY}, {STRATEGY}"), "strategies[1]: expected each name once, was 's' again"),
        (lambda: strategy("account: papre"), "strategies[0].account: expected one of paper, was 'papre'"),
        (
            lambda: strategy('instruments: ["binance:BTC-USDT", "binance:BTC-USDT"]'),
            "strategies[0].instruments[1]: expected each name once, was 'binance:BTC-USDT' again",
        ),
        (
            lambda: strategy('instruments: ["binance:BTC-EUR"]'),
            "strategies[0].instruments[0]: expected one quoted in USDT like account paper, was binance:BTC-EUR",
        ),
        (
            lambda: strategy("instruments: [BTCUSDT]"),
            "strategies[0].instruments[0]: expected an instrument like binance:BTC-USDT or binance_futures:BTC-USDT-PERP, was 'BTCUSDT'",
        ),
        (
            lambda: strategy('instruments: ["binance:B|C-USDT"]'),
            "strategies[0].instruments[0]: expected a name without |, which parts the names of totals, was 'binance:B|C-USDT'",
        ),
        (
            lambda: strategy("size_pct: 20, phase: 3"),
            "strategies[0].size_pct: expected at most 25, the account's instrument_exposure_pct, was 20 at risk level 2: "
            "every entry would be refused",
        ),
    ],
)  # fmt: skip
def test_a_complaint_says_where_what_was_expected_and_what_was_found(said, wanted):
    assert said() == wanted


NUMBERS = {
    "accounts[0].risk": ["exposure_pct", "instrument_exposure_pct", "cooldown_seconds", "daily_loss_pct", "drawdown_pct", "breaker_seconds",
                         "stale_seconds", "max_positions", "trades_per_hour"],
    "accounts[0]": ["behind_seconds"],
    "accounts[0].costs": ["fee_bps", "slippage_bps", "impact_bps", "spread_bps"],
    "strategies[0]": ["size_pct", "signal_seconds", "phase"],
    "strategies[0].filters": ["max_spread_bps", "max_volatility", "min_score", "max_alert_age_seconds"],
    "strategies[0].limits": ["max_positions", "trades_per_hour", "cooldown_seconds"],
    "strategies[0].exits": ["stop_loss_bps", "take_profit_bps", "max_holding_seconds"],
}  # fmt: skip


@pytest.mark.parametrize("number", [".nan", ".inf", "-.inf", "1" + "0" * 30, "-1"])
@pytest.mark.parametrize(("path", "name"), [(path, name) for path, names in NUMBERS.items() for name in names])
def test_no_setting_takes_a_number_that_is_none_or_too_large(path, name, number):
    part = path.partition("].")[2]
    said = f"{part}: {{{name}: {number}}}" if part else f"{name}: {number}"
    found = account(f"cash: 1000, {said}") if path.startswith("accounts") else strategy(said)
    assert found.startswith(f"{path}.{name}: expected ")


def test_every_number_of_the_file_is_tried_above():
    own = {"": params.Strategy, ".filters": params.Rules, ".limits": params.Limits, ".exits": params.Exits}
    owners = {f"strategies[0]{name}": owner for name, owner in own.items()}
    owners |= {"accounts[0]": params.Account, "accounts[0].risk": params.Risk, "accounts[0].costs": params.Costs}
    words = {
        "name",
        "cash",
        "quote",
        "costs",
        "risk",
        "account",
        "instruments",
        "source",
        "direction",
        "inverted",
        "started",
        "filters",
        "limits",
        "exits",
        "complete_only",
    }
    for path, owner in owners.items():
        assert set(owner.__struct_fields__) - words == set(NUMBERS[path])


@pytest.mark.parametrize("cash", [".nan", ".inf", "-.inf", "1e400", "-1e400", "nan", "sNaN", "-1"])
def test_cash_is_money(cash):
    assert account(f"cash: {cash}").startswith("accounts[0].cash: expected money above 0 and at most 10^12, was ")


def test_a_long_value_is_shortened():
    assert len(strategy("name: " + "x" * 500)) < 250


def test_dollars_of_other_names_stand_side_by_side():
    found = parsed(
        b'accounts: [{name: a, cash: 1, quote: USD}]\nstrategies: [{name: s, account: a, instruments: ["x:BTC-USDC"], size_pct: 1}]'
    )
    assert found["a"].instruments == ("x:BTC-USDC",)
