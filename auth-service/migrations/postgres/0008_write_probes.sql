-- One row, which readiness writes to see whether it can.
create table write_probes (
    id bigint not null primary key check (id = 1),
    number bigint not null,
    tried_at bigint not null
);
