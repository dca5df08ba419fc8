-- A column for another member of the document; write_document.sql follows.

alter table users.account add column nickname text;

