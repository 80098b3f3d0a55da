"""What can be measured on a HOPE without training it: its parts and their sizes, whether its states stay bounded, whether
a stream can be cut anywhere in float32. [D]"""
