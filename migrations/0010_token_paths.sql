-- The only directories a token reaches: JSON array of DIR/**; NULL: all that a target's roots hold.
ALTER TABLE token ADD COLUMN paths TEXT;
