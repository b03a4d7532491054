from tenant_schemas.models import TenantMixin


class Client(TenantMixin):
    auto_drop_schema = True
