"""A small made-up town: pictures of any number of places, with exact poses, without any data."""

from placerec.demo.photos import demo_pose, position_of, write_demo_photos
from placerec.demo.town import Pose, Town, render

__all__ = ["Pose", "Town", "demo_pose", "position_of", "render", "write_demo_photos"]
