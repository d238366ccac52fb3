-- One row, which readiness writes to see whether it can.
create table write_probes (
    id integer not null primary key check (id = 1),
    number integer not null,
    tried_at integer not null
) strict;
