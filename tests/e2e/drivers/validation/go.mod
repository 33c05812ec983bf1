module e2e/validation

go 1.26.0
