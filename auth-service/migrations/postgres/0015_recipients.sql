-- Whom the service tells what happens, as JSON: a command that ends sessions need not have its settings.
create table recipients (
    id integer not null primary key check (id = 1),
    recipients text not null
);
