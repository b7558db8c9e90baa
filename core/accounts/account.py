"""One account: hears its instruments' marks and transitions, alerts and commands, and publishes what it does about them.

It acts at boundaries alone (see barrier): prices, fills, value, breaker, commands, triggers, reports, in this order. So what
it publishes is a function of the `signals` log, and the same bytes for any order in which the marks arrive.
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal, localcontext

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from core.accounts import breaker as breakers
from core.accounts import fills, ledger, money, reports, rules, statistics, triggers
from core.accounts.barrier import Barrier, BarrierState, Boundary
from core.accounts.ledger import Holding
from core.accounts.money import ZERO
from core.accounts.params import INTERNAL, RISK_LEVELS, AccountParams, Exits, Strategy
from core.accounts.state import Active, Done, Pending, Snapshot, State
from core.accounts.triggers import Trigger
from core.clock import DAY_US, MINUTE_US
from core.topology import VERSION
from schemas.signals import Alert, Command, Mark, Transition
from schemas.trading import Breaker, ClosedTrade, Cycle, Fill, Order, Proposal, Refused

HOUR_US = 60 * MINUTE_US
ENTRY_US = MINUTE_US  # an order to open that finds no price for so long is given up; the longest step between marks of a quiet market
INBOX_LIMIT = 10_000  # alerts and commands that wait while the account stands still; the oldest go first
TAKEN = 1_000  # alerts and commands that are remembered; after a crash the reader of webhooks repeats 500 at most
TWIN_US = 500_000  # one alert that two gateways took at once has two times; the same body sent again is another one later than that
ENTRIES = {"LONG": 1, "SHORT": -1}


class Account:
    """One account's engine. Feed it messages of `signals` in log order; `trading` gathers what it publishes."""

    def __init__(self, params: AccountParams, state: State | None = None) -> None:
        self.params = params
        self.account = params.account
        self.key = params.account.name
        self.cent = money.cent_of(params.account.quote)
        self.strategies = {strategy.name: strategy for strategy in params.strategies}
        self._known = {key_of(strategy.name, instrument) for strategy in params.strategies for instrument in strategy.instruments}
        self._exiting = {strategy.name for strategy in params.strategies if strategy.exits != Exits()}
        self.state = state or begun(params)
        self.barrier = Barrier(self._heard(), self.state.barrier, int(params.account.behind_seconds * 1e6))
        self._prices: dict[str, Decimal | None] = {}  # by instrument: what its newest mark values a position at
        self.values = self._valued()  # by key: the positions' values at the boundary
        self.drawdown_pct = breakers.drawdown_pct(self.state.peak, self.state.value)  # at the boundary
        self.next_offset = 0
        self.trading: list[Struct] = []
        self.checkpoint_us = 0  # the last hour that ended while messages were fed, 0 if none did

    def feed(self, messages: Sequence[Mark | Transition | Alert | Command]) -> None:
        """Take messages of this account, in log order."""
        state, barrier = self.state, self.barrier
        for message in messages:
            kind = type(message)
            if kind is Mark or kind is Transition:
                barrier.take(message)
                while (boundary := barrier.due()) is not None:
                    with localcontext(money.EXACT):
                        self._act(boundary)
            elif not self._came_before(message):
                state.inbox = [*state.inbox, message][-INBOX_LIMIT:]

    def _came_before(self, message: Alert | Command) -> bool:
        """Return whether it is a repeat: the same sender and id, and the same time, of an alert about the same."""
        state, sender, apart_us = self.state, "", 0
        if type(message) is Alert:
            sender, apart_us = message.source, TWIN_US
        name = f"{sender}|{message.id}"
        for taken in state.taken:
            before, _, at_us = taken.rpartition("|")  # an id may hold one too
            if before == name and abs(int(at_us) - message.at_us) <= apart_us:
                return True
        state.taken = [*state.taken, f"{name}|{message.at_us}"][-TAKEN:]
        return False

    def _heard(self) -> Iterable[str]:
        chosen = self.state.heard
        return [name for name in self.params.instruments if name in chosen] or self.params.instruments

    def _act(self, boundary: Boundary) -> None:
        state, at_us = self.state, boundary.at_us
        last_us = state.acted_us
        if last_us < 0:
            state.since_us = state.cycle_us = at_us
            state.breaker = breakers.BreakerState(peak=state.value)
        before_us = at_us if last_us < 0 else last_us
        state.acted_us = at_us
        open_before = state.breaker.state == "open"
        self._hold_time(at_us - before_us)
        self._price(boundary.marks)
        if not (self._known.issuperset(state.holdings) and self._known.issuperset(state.pending)):
            self._drop_unknown(at_us)
        if state.pending:
            self._fill(at_us)
        if state.fills and state.fills[0].at_us <= at_us - HOUR_US:
            state.fills = [done for done in state.fills if done.at_us > at_us - HOUR_US]
        self._mark_equity(at_us)
        inbox, state.inbox = state.inbox, []
        changed = self._obey([message for message in inbox if type(message) is Command], at_us)
        due = [triggers.of_transition(transition, last_us) for transition in boundary.transitions]
        due += [triggers.of_alert(message) for message in inbox if type(message) is Alert]
        self._exit_by_rule(at_us)
        for trigger in due:
            for strategy in self.params.strategies:
                if triggers.heard(strategy, trigger):
                    self._hear(strategy, trigger)
        self._report(at_us, before_us, changed or open_before != (state.breaker.state == "open"))

    def _price(self, marks: Iterable[Mark]) -> None:
        """Keep the newest marks."""
        state = self.state
        for mark in marks:
            name = mark.instrument
            if mark.bid is not None and mark.ask is not None:
                state.quotes_before.pop(name, None)
            elif (before := state.marks.get(name)) is not None and before.bid is not None and before.ask is not None:
                state.quotes_before[name] = before
            state.marks[name] = mark
            self._prices.pop(name, None)
            if mark.bid is not None or mark.ask is not None:
                state.quoted[name] = True

    def _hold_time(self, passed_us: int) -> None:
        """Count event time with positions."""
        held = self.state.held_us
        if passed_us and self.state.holdings:
            names = ("", *(holding.strategy for holding in self.state.holdings.values()))
            for name in dict.fromkeys(names):  # a set's order is another one in each process
                held[name] = held.get(name, 0) + passed_us

    # -- fills

    def _fill(self, at_us: int) -> None:
        """Fill what the new marks allow. What found no price for too long opens nothing any more, and closes at the last one."""
        state = self.state
        for key in sorted(state.pending):
            order = state.pending[key]
            waited = at_us - order.at_us > ENTRY_US
            if order.opening and (reason := self._in_vain(order, waited)):
                if not order.leaves:
                    self._cancel(key, at_us, reason)
                    continue
                order = state.pending[key] = replace(order, qty=-state.holdings[key].qty, opening=ZERO)
            mark = state.marks.get(order.instrument)
            if mark is None or mark.at_us <= order.at_us:
                continue
            best = fills.touch(mark, order.qty > 0, self.account.costs, state.quoted.get(order.instrument, False) and not waited)
            if best is not None:
                del state.pending[key]
                self._execute(order, *best, at_us)

    def _in_vain(self, order: Pending, waited: bool) -> str:
        """Return why an order opens nothing any more, "" if it may."""
        if waited:
            return f"no price came for {ENTRY_US // 1_000_000} s"
        if self.state.breaker.state == "open":
            return "the breaker is open"
        return "" if self._runs(self.strategies[order.strategy]) else "the strategy is stopped"

    def _runs(self, strategy: Strategy) -> bool:
        return self.state.running.get(strategy.name, strategy.started)

    def _execute(self, order: Pending, best: Decimal, size: Decimal | None, at_us: int) -> None:
        state, cent = self.state, self.cent
        qty, buys = abs(order.qty), order.qty > 0
        price = fills.fill_price(best, size, qty, buys, self.account.costs)
        notional = money.product(price, qty, cent)
        fee = money.product(notional, money.of(self.account.costs.fee_bps) / money.BPS, cent)
        key, side = key_of(order.strategy, order.instrument), side_of(order.qty)
        fresh = Holding(order.strategy, order.instrument, order.qty, ZERO, ZERO, at_us, order.source)
        done = ledger.trade(state.holdings.get(key), fresh, notional, fee, cent)
        state.cash += done.cash
        state.last_fill_us[key] = at_us
        state.fills.append(Done(at_us, order.strategy))
        if done.holding is None:
            state.holdings.pop(key, None)
        else:
            state.holdings[key] = done.holding
        name = reports.total_key(order.strategy, "notional", order.instrument, side)
        total = state.notionals[name] = state.notionals.get(name, ZERO) + notional
        slippage = money.bps(price, order.decision) * (1 if buys else -1)
        self._order(order, "FILLED", at_us)
        fill = self._next("F")
        self._publish(
            Fill(
                self.key,
                at_us,
                fill,
                order.id,
                order.strategy,
                order.source,
                order.instrument,
                side,
                price,
                qty,
                notional,
                fee,
                slippage,
                self._count(order.strategy, "fills", order.instrument, side),
                total,
                state.since_us,
            )
        )
        if done.closed is not None:
            self._close(done.closed, fill, price, slippage, at_us)

    def _close(self, closed: ledger.Closed, fill: str, price: Decimal, slippage: float, at_us: int) -> None:
        state, holding = self.state, closed.holding
        name, result = holding.strategy, statistics.result_of(closed.pnl)
        state.stats[name] = statistics.with_trade(state.stats.get(name, statistics.TradeStats()), closed.pnl)
        self._publish(
            ClosedTrade(
                self.key,
                at_us,
                self._next("T"),
                fill,
                name,
                holding.source,
                holding.instrument,
                "LONG" if holding.qty > 0 else "SHORT",
                result,
                closed.entry,
                price,
                closed.qty,
                closed.fees,
                closed.pnl,
                slippage,
                holding.opened_us,
                (at_us - holding.opened_us) / 1e6,
                self._count(name, "closed", holding.instrument, result),
                state.since_us,
            )
        )
        self._break(breakers.closed_one(state.breaker, at_us, closed.pnl), at_us)

    def _cancel(self, key: str, at_us: int, reason: str) -> None:
        self._order(self.state.pending.pop(key), "CANCELLED", at_us, reason)

    def _drop_unknown(self, at_us: int) -> None:
        """Close at the last price what no strategy holds any more: the file has changed, and its marks come no more."""
        state = self.state
        for key in sorted(state.pending.keys() - self._known):
            self._cancel(key, at_us, "the strategy was removed")
        for key in sorted(state.holdings.keys() - self._known):
            holding = state.holdings[key]
            best = self.price_of(holding.instrument) or holding.entry
            what = (holding.strategy, holding.source, holding.instrument, -holding.qty)
            order = Pending(self._next("O"), "removed", *what, ZERO, best, at_us, True)
            self._order(order, "PLACED", at_us)
            self._execute(order, best, None, at_us)

    # -- value and breaker

    def price_of(self, instrument: str) -> Decimal | None:
        """Return what a position is valued at; None while there is no price."""
        if instrument not in self._prices:
            self._prices[instrument] = fills.middle(self.state.marks.get(instrument), self.state.quotes_before.get(instrument))
        return self._prices[instrument]

    def value_of(self, holding: Holding) -> Decimal:
        """Return a position's marked value, < 0 if short; its cost while there is no price."""
        price = self.price_of(holding.instrument)
        return holding.cost if price is None else money.product(price, holding.qty, self.cent)

    def exposure(self, instrument: str = "", without: str = "") -> Decimal:
        """Return what positions and orders to open are worth, without sign: of one instrument, or of all; one key left out."""
        state = self.state
        found = ZERO
        for key, holding in state.holdings.items():
            if key != without and instrument in ("", holding.instrument):
                found += abs(self.values[key])
        for key, order in state.pending.items():
            if key != without and instrument in ("", order.instrument):
                found += order.opening
        return found

    def _valued(self) -> dict[str, Decimal]:
        return {key: self.value_of(holding) for key, holding in self.state.holdings.items()}

    def _mark_equity(self, at_us: int) -> None:
        state = self.state
        self.values = self._valued()
        state.value = sum(self.values.values(), state.cash)
        if at_us // DAY_US > state.day:
            if state.day >= 0:
                state.returns = statistics.with_day(state.returns, money.ratio(state.value - state.day_value, state.day_value))
            state.day, state.day_value = at_us // DAY_US, state.value
        state.peak = max(state.peak, state.value)
        self.drawdown_pct = breakers.drawdown_pct(state.peak, state.value)
        state.max_drawdown_pct = max(state.max_drawdown_pct, self.drawdown_pct)
        self._break(breakers.watch(state.breaker, at_us, state.value, self.account.risk), at_us)

    def _break(self, found: breakers.Change | breakers.BreakerState, at_us: int) -> None:
        if type(found) is breakers.BreakerState:
            self.state.breaker = found
            return
        now = self.state.breaker = found.breaker
        self._publish(
            Breaker(
                self.key,
                at_us,
                now.state,
                found.reason,
                found.found,
                now.state == "open",
                now.trips.get(found.reason, 0) if now.state == "open" else sum(now.trips.values()),
                self.state.since_us,
            )
        )

    # -- commands and triggers

    def _obey(self, commands: Iterable[Command], at_us: int) -> bool:
        """Do what operators want; return whether a strategy's status changed."""
        state, changed = self.state, False
        for command in commands:
            if command.action == "reset":
                self._break(breakers.reset(state.breaker, at_us, state.value, command.id), at_us)
            elif command.action == "instruments":
                state.heard = command.instruments
                self.barrier.expect(self._heard())
            else:
                for name in self.strategies if not command.strategy else [command.strategy]:
                    if name in self.strategies:
                        state.running[name] = command.action == "start"
                        changed = True
        return changed

    def _exit_by_rule(self, at_us: int) -> None:
        state = self.state
        for key in sorted(state.holdings):
            holding = state.holdings[key]
            order = state.pending.get(key)
            if holding.strategy not in self._exiting or (order is not None and order.leaves and abs(order.qty) >= abs(holding.qty)):
                continue
            price = self.price_of(holding.instrument)
            strategy = self.strategies[holding.strategy]
            trigger = None if price is None else triggers.of_exit_rule(strategy, holding, at_us, price)
            if trigger is not None:
                self._hear(strategy, trigger)

    def _hear(self, strategy: Strategy, trigger: Trigger) -> None:
        """Let a strategy answer a trigger."""
        state, key = self.state, key_of(strategy.name, trigger.instrument)
        state.triggers += 1
        wanted = "EXIT" if trigger.by_rule else triggers.wanted_by(strategy, trigger)
        if not trigger.by_rule:
            self._remember(strategy, trigger, wanted, key)
        sign = ENTRIES.get(wanted, 0)
        order = state.pending.get(key)
        turned = order is not None and order.opening and order.qty * sign <= 0
        if turned:
            self._cancel(key, state.acted_us, f"{trigger.cause} came first")
        if not sign or (turned and order.leaves):  # of a reversal that is called off, what leaves still leaves
            self._leave(strategy, trigger, key, 1.0 if turned else trigger.size)
        if sign:
            holding, waits = state.holdings.get(key), key in state.pending
            against = holding is not None and (holding.qty > 0) != (sign > 0)
            if against and waits:  # an order that closes a part must not keep the rest from leaving
                self._leave(strategy, trigger, key, 1.0)
            against = against and not waits
            duplicate = "an order waits" if waits else "the position is there" if holding is not None and not against else ""
            self._enter(strategy, trigger, sign, -holding.qty if against else ZERO, duplicate)

    def _leave(self, strategy: Strategy, trigger: Trigger, key: str, size: float) -> None:
        """Close a part of the position, unless an order that closes as much is waiting: nothing refuses it."""
        holding, order = self.state.holdings.get(key), self.state.pending.get(key)
        if holding is None:
            return
        close = -holding.qty
        if size < 1.0:
            close = money.DOWN.quantize(money.DOWN.multiply(close, money.of(size)), money.QTY_STEP)
        if abs(close) <= (ZERO if order is None else abs(order.qty)):
            return
        if order is not None:
            self._cancel(key, self.state.acted_us, f"{trigger.cause} closes more")
        self._exit(strategy, trigger, close)

    def _remember(self, strategy: Strategy, trigger: Trigger, wanted: str, key: str) -> None:
        """Keep the signal as active, and count it."""
        active = self.state.active
        if wanted == "EXIT":
            active.pop(key, None)
            return
        until_us = 0 if trigger.source == INTERNAL else trigger.at_us + int(strategy.signal_seconds * 1e6)
        active[key] = Active(wanted, until_us)
        self._count(strategy.name, "signals", trigger.instrument, wanted)

    def _enter(self, strategy: Strategy, trigger: Trigger, sign: int, close: Decimal, duplicate: str) -> None:
        """Ask filters and risk for an entry. close: signed quantity that leaves in any case, 0 if none does."""
        state, costs = self.state, self.account.costs
        mark = state.marks.get(trigger.instrument)
        best = None if mark is None else fills.touch(mark, sign > 0, costs, state.quoted.get(trigger.instrument, False))
        level = RISK_LEVELS[strategy.phase] * money.of(strategy.size_pct) * money.of(trigger.size) / 100
        worth = min(max(state.value, ZERO) * level, money.HIGHEST_NOTIONAL)
        opening = ZERO if best is None else money.quantity(worth, best[0]) * sign
        notional = ZERO if best is None else money.product(best[0], abs(opening), self.cent)
        case = self._case(strategy, trigger, mark, best and best[0], notional, duplicate)
        refused = rules.refusal(rules.FILTERS, case)
        if refused is not None:
            self._refuse(strategy, trigger, sign, "filter", *refused, trigger.cause)
            if close:
                self._exit(strategy, trigger, close)
            return
        qty = opening + close
        proposal = self._proposal(strategy, trigger, qty, case.price, "reversal" if close else "entry")
        refused = rules.refusal(rules.RISKS, case)
        if refused is None:
            self._place(strategy, trigger, qty, notional, case.price, proposal, bool(close))
            return
        self._refuse(strategy, trigger, sign, "risk", *refused, proposal)
        if close:
            self._place(strategy, trigger, close, ZERO, case.price, proposal, True)

    def _case(
        self, strategy: Strategy, trigger: Trigger, mark: Mark | None, price: Decimal | None, notional: Decimal, duplicate: str
    ) -> rules.Case:
        state, key = self.state, key_of(strategy.name, trigger.instrument)
        at_us = state.acted_us
        open_keys = [held for held in (*state.holdings, *(k for k in state.pending if k not in state.holdings)) if held != key]
        return rules.Case(
            at_us,
            strategy,
            self.account,
            self._runs(strategy),
            trigger.source,
            trigger.at_us,
            trigger.late,
            trigger.score,
            trigger.complete,
            mark,
            price,
            notional,
            duplicate,
            state.value,
            self.exposure(without=key),
            self.exposure(trigger.instrument, key),
            len(open_keys),
            sum(held.startswith(f"{strategy.name}|") for held in open_keys),
            len(state.fills) + len(state.pending),
            sum(done.strategy == strategy.name for done in (*state.fills, *state.pending.values())),
            state.last_fill_us.get(key),
            state.day_value,
            state.breaker,
        )

    def _exit(self, strategy: Strategy, trigger: Trigger, qty: Decimal) -> None:
        """Propose and place an exit: nothing refuses it."""
        mark = self.state.marks.get(trigger.instrument)
        best = None if mark is None else fills.touch(mark, qty > 0, self.account.costs, False)
        price = best[0] if best is not None else self.state.holdings[key_of(strategy.name, trigger.instrument)].entry
        proposal = self._proposal(strategy, trigger, qty, price, "exit")
        self._place(strategy, trigger, qty, ZERO, price, proposal, True)

    # -- publishing

    def _proposal(self, strategy: Strategy, trigger: Trigger, qty: Decimal, price: Decimal, status: str) -> str:
        """Publish a proposal and return its id."""
        state, side, name = self.state, side_of(qty), self._next("P")
        state.proposals += 1
        total = self._count(strategy.name, "proposals", trigger.instrument, side)
        self._publish(
            Proposal(
                self.key,
                state.acted_us,
                name,
                trigger.cause,
                strategy.name,
                trigger.source,
                trigger.instrument,
                side,
                abs(qty),
                price,
                status,
                total,
                state.since_us,
            )
        )
        return name

    def _place(
        self, strategy: Strategy, trigger: Trigger, qty: Decimal, opening: Decimal, price: Decimal, proposal: str, leaves: bool
    ) -> None:
        state = self.state
        what = (strategy.name, trigger.source, trigger.instrument, qty)
        order = Pending(self._next("O"), proposal, *what, opening, price, state.acted_us, leaves)
        state.pending[key_of(strategy.name, trigger.instrument)] = order
        self._order(order, "PLACED", state.acted_us)

    def _order(self, order: Pending, status: str, at_us: int, reason: str = "") -> None:
        side = side_of(order.qty)
        total = self._count(order.strategy, status.lower(), order.instrument, side)
        self._publish(
            Order(
                self.key,
                at_us,
                order.id,
                order.cause,
                order.strategy,
                order.source,
                order.instrument,
                side,
                abs(order.qty),
                status,
                total,
                self.state.since_us,
                reason,
            )
        )

    def _refuse(self, strategy: Strategy, trigger: Trigger, sign: int, stage: str, reason: str, found: str, cause: str) -> None:
        total = self._count(strategy.name, stage, "", reason)
        self._publish(
            Refused(
                self.key,
                self.state.acted_us,
                strategy.name,
                trigger.source,
                trigger.instrument,
                "BUY" if sign > 0 else "SELL",
                stage,
                reason,
                found,
                cause,
                total,
                self.state.since_us,
            )
        )

    def _report(self, at_us: int, before_us: int, changed: bool) -> None:
        """Publish what is due by time: the cycle, the strategies, the portfolio; ask for a checkpoint each hour."""
        state = self.state
        first = at_us == state.since_us
        minute = at_us - at_us % MINUTE_US
        full = minute > before_us - before_us % MINUTE_US
        if full:
            self._publish(Cycle(self.key, minute, state.triggers, state.proposals, minute - state.cycle_us, state.since_us))
            state.triggers, state.proposals, state.cycle_us = 0, 0, minute
        if full or first or changed:
            for strategy in self.params.strategies:
                self._publish(reports.strategy_stats(self, strategy))
        self._publish(reports.portfolio(self))
        if at_us // HOUR_US > before_us // HOUR_US:
            self.checkpoint_us = at_us - at_us % HOUR_US

    def _count(self, strategy: str, name: str, instrument: str, label: str) -> int:
        key = reports.total_key(strategy, name, instrument, label)
        total = self.state.totals[key] = self.state.totals.get(key, 0) + 1
        return total

    def _next(self, letter: str) -> str:
        number = self.state.ids[letter] = self.state.ids.get(letter, 0) + 1
        return f"{letter}{number}"

    def _publish(self, message: Struct) -> None:
        message.seq = self.state.seq
        self.state.seq += 1
        self.trading.append(message)

    # -- snapshots

    def snapshot(self) -> bytes:
        """Return the state as JSON."""
        return msgspec.json.encode(Snapshot(VERSION, self.params.hash, self.key, self.next_offset, Raw(msgspec.json.encode(self.state))))

    @classmethod
    def restored(cls, params: AccountParams, data: bytes) -> "Account":
        """Return an account that goes on from a snapshot. Other parameters than those that made it are taken over: money stays.

        Raises ValueError if another version made it, or money of another currency is in it.
        """
        snapshot = msgspec.json.decode(data, type=Snapshot)
        if snapshot.version != VERSION:
            raise ValueError(
                f"snapshot of account {snapshot.account}: expected version {VERSION}, was {snapshot.version}; "
                "replay its log from the start, or use the program that made it"
            )
        state = msgspec.json.decode(snapshot.state, type=State)
        if state.quote != params.account.quote:
            raise ValueError(
                f"snapshot of account {snapshot.account}: expected money in {params.account.quote}, was {state.quote}; "
                "give an account in another currency another name"
            )
        account = cls(params, state)
        account.next_offset = snapshot.next_offset
        return account


def begun(params: AccountParams) -> State:
    """Return the state of an account that has its cash and has done nothing."""
    account = params.account
    cash = money.money(account.cash, money.cent_of(account.quote))  # 100000 and 100000.00 begin alike
    return State(BarrierState(), cash, cash, account.quote, value=cash, peak=cash)


def key_of(strategy: str, instrument: str) -> str:
    return f"{strategy}|{instrument}"


def side_of(qty: Decimal) -> str:
    return "BUY" if qty > 0 else "SELL"
