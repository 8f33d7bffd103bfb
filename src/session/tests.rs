//! Scripted exchanges with one session.
