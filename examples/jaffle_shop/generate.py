"""Generator of the jaffle shop's raw data, in place of a loader.

    python generate.py --start 2026-10-01 --end 2026-11-01

writes the tables of schema ``raw`` that ``external_models.yaml`` lists, and replaces them if they
exist. The rows of a day depend on the seed and the day alone, so two periods agree on the days
they share: to let a day pass, generate again with a later ``--end``.

The data is clean: all audits of the project pass. Two functions, and the options of the same
names, spoil a day of it; generating again heals the raw tables. What an incremental model has
loaded from a spoiled day stays as it is until the model is restated.

Environment variables:
    JAFFLE_SHOP_DATABASE: The DuckDB file when ``--database`` is not given.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, time, timedelta
from pathlib import Path

import duckdb

DEFAULT_DATABASE = Path(__file__).parent / "jaffle_shop.duckdb"
DEFAULT_START = date(2026, 10, 1)
DEFAULT_END = date(2026, 11, 1)
DEFAULT_SEED = 7

# The customers' log begins here whatever the period is: a customer's later versions follow from
# the earlier ones.
LOG_START = date(2026, 9, 1)
FIRST_CUSTOMERS = 400
NEW_CUSTOMERS_A_DAY = 5
CHANGED_CUSTOMERS_A_DAY = 4

ORDERS_ON_A_WORKDAY = 160
ORDERS_ON_A_WEEKEND_DAY = 220
SESSIONS_A_DAY = 90
ONLINE_STORE = 6

TABLES: dict[str, dict[str, str]] = {
    "customers": {
        "customer_id": "INTEGER",
        "first_name": "VARCHAR",
        "last_name": "VARCHAR",
        "email": "VARCHAR",
        "home_store_id": "INTEGER",
        "marketing_opt_in": "BOOLEAN",
        "created_at": "TIMESTAMP",
        "updated_at": "TIMESTAMP",
    },
    "products": {
        "product_id": "INTEGER",
        "product_name": "VARCHAR",
        "category": "VARCHAR",
        "price_cents": "INTEGER",
        "cost_cents": "INTEGER",
    },
    "orders": {
        "order_id": "BIGINT",
        "customer_id": "INTEGER",
        "store_id": "INTEGER",
        "status": "VARCHAR",
        "discount_cents": "INTEGER",
        "ordered_at": "TIMESTAMP",
    },
    "order_items": {
        "order_item_id": "BIGINT",
        "order_id": "BIGINT",
        "product_id": "INTEGER",
        "quantity": "INTEGER",
        "unit_price_cents": "INTEGER",
    },
    "payments": {
        "payment_id": "BIGINT",
        "order_id": "BIGINT",
        "payment_method": "VARCHAR",
        "status": "VARCHAR",
        "amount_cents": "INTEGER",
        "paid_at": "TIMESTAMP",
    },
    "web_events": {
        "event_id": "BIGINT",
        "session_id": "BIGINT",
        "customer_id": "INTEGER",
        "event_type": "VARCHAR",
        "page_path": "VARCHAR",
        "campaign": "VARCHAR",
        "occurred_at": "TIMESTAMP",
    },
    "loads": {"table_name": "VARCHAR", "loaded_until": "TIMESTAMP"},
}

PRODUCTS: list[tuple[int, str, str, int, int]] = [
    (1, "Nutellaphone Who Dis?", "jaffle", 1100, 390),
    (2, "Doctor Stew", "jaffle", 1100, 420),
    (3, "The Krautback", "jaffle", 1200, 450),
    (4, "Flame Impala", "jaffle", 1400, 510),
    (5, "Mel-bun", "jaffle", 1200, 440),
    (6, "Tangaroo", "beverage", 600, 150),
    (7, "Chai and Mighty", "beverage", 500, 120),
    (8, "Vanilla Ice", "beverage", 600, 160),
    (9, "For Richer or Pourover", "beverage", 700, 180),
    (10, "Adele-ade", "beverage", 400, 90),
]

FIRST_NAMES = "Ada Ben Chloe Dev Elif Femi Grace Hugo Ines Jonas Kemi Lena Mateo Noor Oskar Priya"
LAST_NAMES = "Adams Brandt Costa Diaz Evans Fischer Gupta Haddad Ito Jensen Kovacs Lopez Meyer Nair"
CAMPAIGNS = ("", "", "", "autumn_menu", "loyalty_app", "newsletter")
PAGES = ("/", "/menu", "/menu/jaffles", "/menu/beverages", "/stores", "/account")
METHODS = ("credit_card", "debit_card", "mobile_wallet", "cash")

Row = tuple[object, ...]


def generate(database: Path, start: date, end: date, seed: int = DEFAULT_SEED) -> dict[str, int]:
    """Writes the raw tables for a period, in place of those that are there.

    Args:
        database: The DuckDB file; it and its folder are made if need be.
        start: First day with orders and web events.
        end: First day without them. ``raw.loads`` says that everything is loaded until then.
        seed: Another seed gives other data.

    Returns:
        Number of rows of each table, by its name with the schema.

    Raises:
        ValueError: The period is empty.
        duckdb.IOException: Another process holds the file.
    """
    if start >= end:
        raise ValueError(f"The period is empty: start {start} is not before end {end}.")

    days = list(_days(start, end))
    orders: list[Row] = []
    items: list[Row] = []
    payments: list[Row] = []
    for day in days:
        for order, order_items, order_payments in _orders(seed, day):
            orders.append(order)
            items.extend(order_items)
            payments.extend(order_payments)
    rows: dict[str, list[Row]] = {
        "customers": list(_customers(seed, end)),
        "products": list(PRODUCTS),
        "orders": orders,
        "order_items": items,
        "payments": payments,
        "web_events": [event for day in days for event in _web_events(seed, day)],
        "loads": [(f"raw.{table}", _midnight(end)) for table in TABLES if table != "loads"],
    }

    database.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(database)) as connection:
        connection.execute("BEGIN")
        connection.execute("CREATE SCHEMA IF NOT EXISTS raw")
        for table, columns in TABLES.items():
            _write(connection, table, columns, rows[table])
        connection.execute("COMMIT")
    return {f"raw.{table}": len(rows[table]) for table in TABLES}


def break_order_totals(database: Path, day: date) -> int:
    """Makes all prices of a day's order lines negative, as a faulty till would.

    The blocking audit ``assert_order_total_not_negative`` of ``sales.orders`` fails for every hour
    of the day that is evaluated afterwards. Those hours stay missing, so after generating again
    the next run makes up for them.

    Args:
        database: The DuckDB file with generated data.
        day: The day to spoil, in UTC.

    Returns:
        Number of order lines changed.
    """
    return _change(
        database,
        """
        UPDATE raw.order_items SET unit_price_cents = -ABS(unit_price_cents)
        WHERE order_id IN (SELECT order_id FROM raw.orders WHERE ordered_at::DATE = $day)
        """,
        day,
    )


def lose_payments(database: Path, day: date) -> int:
    """Deletes the payments of every tenth order of a day, as a lost file would.

    When the day has not been loaded to ``staging.payments`` yet, the audit
    ``assert_no_unpaid_orders`` of ``finance.reconciliation``, which does not block, and the
    standalone audit ``assert_every_order_has_payment`` fail afterwards.

    Args:
        database: The DuckDB file with generated data.
        day: The day to spoil, in UTC.

    Returns:
        Number of payments deleted.
    """
    return _change(
        database,
        """
        DELETE FROM raw.payments
        WHERE order_id IN (
          SELECT order_id FROM raw.orders WHERE ordered_at::DATE = $day AND order_id % 10 = 0
        )
        """,
        day,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: The arguments, those of the process when not given.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(
        description="Writes the raw data of the jaffle shop, or spoils a day of it.",
    )
    parser.add_argument(
        "--database",
        type=Path,
        default=Path(os.environ.get("JAFFLE_SHOP_DATABASE") or DEFAULT_DATABASE),
        help="the DuckDB file (default: %(default)s)",
    )
    parser.add_argument(
        "--start",
        type=date.fromisoformat,
        default=DEFAULT_START,
        help="first day (default: %(default)s)",
    )
    parser.add_argument(
        "--end",
        type=date.fromisoformat,
        default=DEFAULT_END,
        help="first day without data (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=DEFAULT_SEED, help="seed of the data (default: %(default)s)"
    )
    faults = parser.add_mutually_exclusive_group()
    faults.add_argument(
        "--break-order-totals",
        type=date.fromisoformat,
        metavar="DAY",
        help="generate nothing: make the prices of this day's order lines negative",
    )
    faults.add_argument(
        "--lose-payments",
        type=date.fromisoformat,
        metavar="DAY",
        help="generate nothing: delete the payments of every tenth order of this day",
    )
    options = parser.parse_args(arguments)

    if options.break_order_totals:
        changed = break_order_totals(options.database, options.break_order_totals)
        print(f"raw.order_items: {changed} rows changed")
        return 0
    if options.lose_payments:
        deleted = lose_payments(options.database, options.lose_payments)
        print(f"raw.payments: {deleted} rows deleted")
        return 0
    if options.start >= options.end:
        parser.error(f"--start {options.start} has to be before --end {options.end}")
    for table, count in generate(
        options.database, options.start, options.end, options.seed
    ).items():
        print(f"{table}: {count} rows")
    return 0


def _customers(seed: int, end: date) -> Iterator[Row]:
    """All versions of all customers before a day, oldest first."""
    rng = random.Random(f"{seed}/customers")
    current: list[tuple[int, str, str, str, int, bool, datetime]] = []

    def register(moment: datetime) -> Row:
        number = len(current) + 1
        first, last = rng.choice(FIRST_NAMES.split()), rng.choice(LAST_NAMES.split())
        email = f"{first}.{last}.{number}@mail.example"
        store, opt_in = rng.randint(1, ONLINE_STORE), rng.random() < 0.6
        current.append((number, first, last, email, store, opt_in, moment))
        return (*current[-1], moment)

    def change(moment: datetime) -> Row:
        number, first, last, email, store, opt_in, created = rng.choice(current)
        what = rng.random()
        if what < 0.4:
            store = store % ONLINE_STORE + 1
        elif what < 0.8:
            opt_in = not opt_in
        else:
            email = f"{first}.{number}.{moment:%y%m%d}@mail.example"
        current[number - 1] = (number, first, last, email, store, opt_in, created)
        return (*current[number - 1], moment)

    for _ in range(FIRST_CUSTOMERS):
        yield register(_midnight(LOG_START) - timedelta(seconds=rng.randint(1, 365 * 86_400)))
    for day in _days(LOG_START, end):
        moments = sorted(
            _midnight(day) + timedelta(seconds=rng.randrange(86_400))
            for _ in range(NEW_CUSTOMERS_A_DAY + CHANGED_CUSTOMERS_A_DAY)
        )
        registering = set(rng.sample(range(len(moments)), NEW_CUSTOMERS_A_DAY))
        for place, moment in enumerate(moments):
            yield register(moment) if place in registering else change(moment)


def _orders(seed: int, day: date) -> Iterator[tuple[Row, list[Row], list[Row]]]:
    """The orders of a day, each with its lines and payments, in the order of their time."""
    rng = random.Random(f"{seed}/orders/{day}")
    count = ORDERS_ON_A_WEEKEND_DAY if day.weekday() >= 5 else ORDERS_ON_A_WORKDAY
    # One order in every hour: an hourly interval without rows would hide what a test looks for.
    seconds = [hour * 3600 + rng.randrange(3600) for hour in range(24)]
    # Stores are open from 7 to 20 o'clock in America, which is 11 to 3 o'clock UTC.
    seconds += [int(rng.triangular(11, 27, 18) * 3600) % 86_400 for _ in range(count - 24)]
    midnight = _midnight(day)

    for number, second in enumerate(sorted(seconds), start=1):
        ordered_at = midnight + timedelta(seconds=second)
        order_id = _number(day, number)
        lines: list[Row] = []
        total = 0
        for line in range(1, rng.choices((1, 2, 3, 4), (35, 35, 20, 10))[0] + 1):
            product_id, _, _, price, _ = rng.choice(PRODUCTS)
            quantity = rng.choices((1, 2), (85, 15))[0]
            total += quantity * price
            lines.append((order_id * 10 + line, order_id, product_id, quantity, price))
        discount = total // 10 if rng.random() < 0.15 else 0
        store_id = rng.choices(range(1, ONLINE_STORE + 1), (22, 15, 18, 10, 17, 18))[0]
        status = rng.choices(("completed", "returned", "cancelled"), (95, 3, 2))[0]
        order = (order_id, _customer(rng, day), store_id, status, discount, ordered_at)
        # An order is placed once it is paid, so its payments are never later than the order; and
        # not on the day before, which another call may leave out.
        paid_at = max(midnight, ordered_at - timedelta(seconds=rng.randint(2, 90)))
        yield order, lines, _payments(rng, order_id, status, total - discount, paid_at)


def _payments(
    rng: random.Random, order_id: int, status: str, total: int, paid_at: datetime
) -> list[Row]:
    """The payments of an order: none when it was cancelled, two when a gift card is too small."""
    if status == "cancelled":
        return []
    state = "refunded" if status == "returned" else "captured"
    parts = [("gift_card", min(total, 1000))] if rng.random() < 0.08 else []
    rest = total - sum(amount for _, amount in parts)
    if rest:
        parts.append((rng.choices(METHODS, (45, 25, 20, 10))[0], rest))
    return [
        (order_id * 10 + part, order_id, method, state, amount, paid_at)
        for part, (method, amount) in enumerate(parts, start=1)
    ]


def _web_events(seed: int, day: date) -> Iterator[Row]:
    """The events of the visits of a day; a visit ends on the day on which it began."""
    rng = random.Random(f"{seed}/web_events/{day}")
    for number in range(1, SESSIONS_A_DAY + 1):
        session_id = _number(day, number)
        customer_id = _customer(rng, day) if rng.random() < 0.45 else None
        campaign = rng.choice(CAMPAIGNS)
        steps = [("page_view", rng.choice(PAGES)) for _ in range(rng.randint(1, 6))]
        if rng.random() < 0.4:
            steps.append(("add_to_cart", "/cart"))
            if rng.random() < 0.6:
                steps.append(("checkout", "/checkout"))
        steps.append(("session_end", steps[-1][1]))
        pauses = [rng.randint(5, 120) for _ in steps]
        moment = _midnight(day) + timedelta(seconds=rng.randrange(86_400 - sum(pauses)))
        for step, ((event_type, page), pause) in enumerate(zip(steps, pauses, strict=True)):
            event_id = session_id * 100 + step
            yield (event_id, session_id, customer_id, event_type, page, campaign, moment)
            moment += timedelta(seconds=pause)


def _customer(rng: random.Random, day: date) -> int:
    """A customer who had registered before the day; those with low numbers come more often."""
    count = FIRST_CUSTOMERS + NEW_CUSTOMERS_A_DAY * max(0, (day - LOG_START).days)
    return int(count * rng.random() ** 1.25) + 1


def _number(day: date, number: int) -> int:
    """A number that no other day has."""
    return int(f"{day:%y%m%d}") * 10_000 + number


def _days(start: date, end: date) -> Iterator[date]:
    for offset in range((end - start).days):
        yield start + timedelta(days=offset)


def _midnight(day: date) -> datetime:
    # Naive on purpose: the columns are TIMESTAMP, in UTC.
    return datetime.combine(day, time())


def _write(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    columns: dict[str, str],
    rows: Iterable[Row],
) -> None:
    """Replaces a table of schema raw."""
    # One list for each column: DuckDB's executemany takes seconds for as many rows.
    values = [list(column) for column in zip(*rows, strict=True)]
    selected = ", ".join(
        f"UNNEST(${place}::{kind}[]) AS {name}"
        for place, (name, kind) in enumerate(columns.items(), start=1)
    )
    connection.execute(f"CREATE OR REPLACE TABLE raw.{table} AS SELECT {selected}", values)


def _change(database: Path, statement: str, day: date) -> int:
    with duckdb.connect(str(database)) as connection:
        (count,) = connection.execute(statement, {"day": day}).fetchone() or (0,)
    return int(count)


if __name__ == "__main__":
    sys.exit(main())
