-- Run by a superuser, once: the extension, and three companies that know nothing of each other.
CREATE EXTENSION tenant_q;

CREATE ROLE acme LOGIN PASSWORD :'password';
CREATE ROLE globex LOGIN PASSWORD :'password';
CREATE ROLE initech LOGIN PASSWORD :'password';

CREATE SCHEMA acme AUTHORIZATION acme;
CREATE SCHEMA globex AUTHORIZATION globex;
CREATE SCHEMA initech AUTHORIZATION initech;

-- The first schema of the path is the tenant that a session's calls are about.
ALTER ROLE acme SET search_path = acme, public;
ALTER ROLE globex SET search_path = globex, public;
ALTER ROLE initech SET search_path = initech, public;
