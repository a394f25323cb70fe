MODEL (
  name core.customer_history,
  kind SCD_TYPE_2_BY_COLUMN (
    unique_key customer_id,
    columns (email, home_store_id, marketing_opt_in)
  ),
  cron '@daily',
  description 'Versions of each customer, as the daily runs saw them.',
  column_descriptions (
    customer_id = 'Number of the customer.',
    email = 'Address in lower case.',
    home_store_id = 'Store that the customer chose as theirs.',
    marketing_opt_in = 'Whether the customer agreed to receive campaigns.',
    valid_from = 'Run that saw the version first, in UTC; 1970 for those of the first run.',
    valid_to = 'Run that saw the next version, in UTC; null for the current version.'
  ),
  grain (customer_id, valid_from),
  tags (core, pii),
  audits (
    not_null(columns := (customer_id, valid_from))
  )
);

SELECT
  customer_id::INT,
  email::TEXT,
  home_store_id::INT,
  marketing_opt_in::BOOLEAN
FROM staging.customers
