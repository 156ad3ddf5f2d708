revoke all on all functions in schema {{ schema }} from public;
revoke all on all procedures in schema {{ schema }} from public;
