"""Images: bytes to identity, safe decoding, preprocessing, quality, and the store that keeps the bytes.

A pure room: it knows neither the database nor torch. Arrays in, arrays out.
"""
