-- A store that came back from a backup: nothing that was given since the backup is given again.

-- name: restored_state
UPDATE account_state SET
  epoch = max(epoch + 1, :epoch), modseq = modseq + :modseqs, tombstone_floor = modseq + :modseqs,
  mailbox_modseq = modseq + :modseqs, email_modseq = modseq + :modseqs, thread_modseq = modseq + :modseqs,
  next_email = next_email + :ids, next_mailbox = next_mailbox + :ids, last_uidvalidity = max(last_uidvalidity, :epoch)
WHERE account = :account RETURNING modseq;

-- name: restored_mailboxes
UPDATE mailbox SET uidnext = uidnext + :ids, highest_modseq = :modseq WHERE account = :account;

-- name: restored_placements
UPDATE placement SET modseq = :modseq WHERE account = :account;

-- What goes to others may have gone already. What is for mailboxes here may not: they are as old as the queue.
-- name: restored_queue
UPDATE queued_recipient SET held = 1
WHERE held = 0 AND lane IN (SELECT id FROM lane WHERE destination NOT LIKE 'local:%');
