"""Networks: a timm backbone with a head per task."""
