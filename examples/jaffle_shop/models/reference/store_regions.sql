MODEL (
  name reference.store_regions,
  kind SEED (
    path '../../seeds/store_regions.csv'
  ),
  description 'The stores and the sales region of each.',
  columns (
    store_id INT,
    store_name TEXT,
    city TEXT,
    region TEXT,
    country TEXT,
    time_zone TEXT
  ),
  column_descriptions (
    store_id = 'Number of the store.',
    store_name = 'Name of the store.',
    city = 'City of the store; null for the web shop.',
    region = 'Sales region of the store.',
    country = 'Country of the store, ISO 3166.',
    time_zone = 'IANA time zone of the store.'
  ),
  grain store_id,
  tags reference,
  audits (
    unique_values(columns := store_id)
  )
)
