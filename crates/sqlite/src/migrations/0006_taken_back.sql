-- How many numbers after the newest run's were promised to starts that asked for one more run, and taken back with the whole
-- task: no run may have them.
ALTER TABLE task      ADD COLUMN taken_back INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tombstone ADD COLUMN taken_back INTEGER NOT NULL DEFAULT 0;
