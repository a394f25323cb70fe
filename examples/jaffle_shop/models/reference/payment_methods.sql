MODEL (
  name reference.payment_methods,
  kind SEED (
    path '../../seeds/payment_methods.csv'
  ),
  description 'The accepted payment methods and what their providers charge.',
  owner 'finance@jaffle-shop.example',
  columns (
    payment_method TEXT,
    display_name TEXT,
    fee_rate DECIMAL(6, 4),
    settlement_days INT
  ),
  column_descriptions (
    payment_method = 'Code of the payment method.',
    display_name = 'Name shown to people.',
    fee_rate = 'Share of a payment that the provider keeps.',
    settlement_days = 'Days until the money arrives.'
  ),
  grain payment_method,
  tags (reference, finance)
)
