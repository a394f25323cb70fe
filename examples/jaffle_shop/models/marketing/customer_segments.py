"""Segments of the customers by recency, frequency and amount, computed with pandas."""

from __future__ import annotations

import os
from datetime import datetime
from typing import Any

import pandas as pd
from sqlglot import exp
from sqlmesh import ExecutionContext, model
from sqlmesh.core.model import ModelKindName

MODEL_NAME = "marketing.customer_segments"


@model(
    "marketing.customer_segments",
    kind={"name": ModelKindName.FULL},
    cron="@daily",
    owner="growth",
    description="One segment for each customer with an order, from what and when they bought.",
    grain="customer_id",
    tags=["marketing", "customers"],
    columns={
        "customer_id": "INT",
        "recency_days": "INT",
        "order_count": "INT",
        "lifetime_amount": "DECIMAL(12, 2)",
        "visit_count": "INT",
        "segment": "TEXT",
    },
    column_descriptions={
        "customer_id": "Number of the customer.",
        "recency_days": "Whole days since the latest order.",
        "order_count": "Orders that were not cancelled.",
        "lifetime_amount": "Net amount of these orders.",
        "visit_count": "Visits of the web shop while signed in.",
        "segment": "champion, loyal, lapsing or occasional.",
    },
    audits=[
        # A column is an expression here: a plain string would be compared as a string.
        ("unique_values", {"columns": exp.column("customer_id")}),
        (
            "accepted_values",
            {
                "column": exp.column("segment"),
                "is_in": ["champion", "loyal", "lapsing", "occasional"],
            },
        ),
    ],
)
def execute(
    context: ExecutionContext,
    start: datetime,
    end: datetime,
    execution_time: datetime,
    **kwargs: Any,
) -> pd.DataFrame:
    """Segments all customers as of the execution time.

    Args:
        context: Gives access to the engine and to the physical tables of other models.
        start: Start of the interval; a FULL model has no use for it.
        end: End of the interval.
        execution_time: The moment that counts as now, in UTC.
        **kwargs: Variables that SQLMesh passes.

    Returns:
        One row for each customer.

    Raises:
        RuntimeError: JAFFLE_SHOP_FAIL asks for it.
    """
    if os.environ.get("JAFFLE_SHOP_FAIL") in (MODEL_NAME, "1"):
        raise RuntimeError(
            f"{MODEL_NAME} fails because JAFFLE_SHOP_FAIL={os.environ['JAFFLE_SHOP_FAIL']} is set. "
            "Unset it to let the model succeed."
        )

    profiles = context.fetchdf(
        f"""
        SELECT
          profile.customer_id,
          profile.last_ordered_at,
          profile.order_count,
          profile.lifetime_amount,
          COUNT(session.session_id) AS visit_count
        FROM {context.resolve_table("core.customer_profile")} AS profile
        LEFT JOIN {context.resolve_table("marketing.sessions")} AS session
          ON profile.customer_id = session.customer_id
        GROUP BY ALL
        """
    )

    now = pd.Timestamp(execution_time).tz_localize(None)
    frequent = profiles["order_count"] >= profiles["order_count"].quantile(0.75)
    valuable = profiles["lifetime_amount"].astype(float) >= (
        profiles["lifetime_amount"].astype(float).quantile(0.75)
    )
    recency_days = (now - profiles["last_ordered_at"]).dt.days
    lapsing = recency_days > 7

    segment = pd.Series("occasional", index=profiles.index)
    segment[frequent | valuable] = "loyal"
    segment[frequent & valuable] = "champion"
    segment[lapsing] = "lapsing"

    return profiles.assign(recency_days=recency_days, segment=segment)[
        [
            "customer_id",
            "recency_days",
            "order_count",
            "lifetime_amount",
            "visit_count",
            "segment",
        ]
    ]
