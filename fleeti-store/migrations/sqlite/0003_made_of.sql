-- The fragments that a revision was made of: a JSON list with names, digests, and the revisions of those
-- that are profiles. NULL for revisions that were saved before this column, or came without a text.
ALTER TABLE revisions ADD COLUMN made_of TEXT;
