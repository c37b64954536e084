-- The store's own: numbers for new rows (Tx.number).

-- name: series_take
UPDATE series SET next = next + :count WHERE name = :series RETURNING next - :count
