module e2e/request

go 1.26.0
