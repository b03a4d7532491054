from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    operations = [
        migrations.CreateModel(
            "Client",
            [
                ("id", models.BigAutoField(primary_key=True)),
                ("domain_url", models.CharField(max_length=128, unique=True)),
                ("schema_name", models.CharField(max_length=63, unique=True)),
            ],
            options={"abstract": False},
        )
    ]
