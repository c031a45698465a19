"""Networks: timm backbones, what the tasks share, and a head per task."""
