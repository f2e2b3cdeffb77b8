-- How many numbers after the newest run's were promised to starts that asked for one more run, and taken back with the whole
-- task: no run may have them. A program that does not know it gives such a number to the next start, and leaves it there, so
-- that a later run passes over one number more.
ALTER TABLE soloist.task ADD COLUMN taken_back bigint NOT NULL DEFAULT 0;
