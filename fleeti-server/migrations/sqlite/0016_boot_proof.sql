-- That a release boots as it promises, as release keys have signed it: the document, and key id and signature of each.
ALTER TABLE releases ADD COLUMN boot_proof TEXT;
ALTER TABLE releases ADD COLUMN boot_proof_signatures TEXT;
